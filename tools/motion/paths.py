"""How the synthetic clips move: one pose per frame, and the label that a viewer would give at that frame.

Lengths are in half picture widths (the picture spans -1 to 1, y down), angles in radians (positive: clockwise as seen).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.training.feed import IGNORE

LABELS = (
    "still",
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "approaching",
    "receding",
    "turning clockwise",
    "turning counterclockwise",
    "shaking",
)
STILL, LEFT, RIGHT, UP, DOWN, APPROACHING, RECEDING, CLOCKWISE, COUNTERCLOCKWISE, SHAKING = range(len(LABELS))
SPINS = (APPROACHING, RECEDING, CLOCKWISE, COUNTERCLOCKWISE)  # what nobody sees of something tiny

Doubles = NDArray[np.float64]
Rng = np.random.Generator

SLOWEST, FASTEST = 0.02, 0.16
"""Speed of the moving thing's rim per frame at 10 frames/s: 1.1 to 9 px of 112."""

_SEEN = 0.05  # a motion has its name where the rim went this far within the last frames: 2.8 px of 112
_REMEMBERED_S = 0.7  # the time between the first and the last frame that a network with T = 8 at 10 frames/s sees
_SETTLED = 3  # frames without motion after which a scene is still
_LONGEST_ZOOM = 1.2  # in natural logarithms of the size
_SHORTEST = 6  # frames of one motion


@dataclass(frozen=True)
class Path:
    """poses [T, 4]: x, y, natural logarithm of the size, angle; labels [T] int64."""

    poses: Doubles
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class _Motion:
    """One motion's steps between frames, [n, 4], and after which of them a viewer can name it, [n]."""

    steps: Doubles
    named: NDArray[np.bool_]


@dataclass(frozen=True)
class _Order:
    """What a motion is asked for: steps, speed of the rim per step, size of the moving thing, frames per second."""

    count: int
    speed: float
    radius: float
    fps: float


def _speeds(rng: Rng, count: int, speed: float) -> Doubles:
    """Speed at each step, [n]: steady, starting gently, ending gently or both; a little uneven, as cameras sample."""
    start, end = (rng.choice([1.0, rng.uniform(0.35, 1)]) for _ in range(2))
    ramp = np.minimum(np.linspace(start, 3, count), np.linspace(3, end, count)).clip(max=1)
    return np.asarray(speed * ramp * rng.normal(1, rng.uniform(0, 0.15), count).clip(0.5, 1.5))


def _named(travel: Doubles, fps: float) -> NDArray[np.bool_]:
    """At which steps of a motion, [n], a viewer who remembers the last frames sees enough of it; never at the first."""
    total = np.cumsum(travel)
    before = np.concatenate([np.zeros(round(_REMEMBERED_S * fps)), total])[: len(total)]
    return np.asarray((total - before >= _SEEN) & (np.arange(len(total)) > 0))


def _drift(rng: Rng, order: _Order) -> Doubles:
    """What no real motion is free of: a slow movement of the other kinds, [n, 4]."""
    share = rng.normal(0, 0.1, 4).clip(-0.2, 0.2) * order.speed
    return np.tile(share / (1, 1, order.radius, order.radius), (order.count, 1))


def _translation(heading: float) -> Callable[[Rng, _Order], _Motion]:
    """Along a slightly bent line; it stays within 37 degrees of its name's direction."""

    def motion(rng: Rng, order: _Order) -> _Motion:
        speeds = _speeds(rng, order.count, order.speed)
        bend = rng.uniform(-0.3, 0.3)
        angles = heading + rng.uniform(-0.35, 0.35) + np.linspace(-bend, bend, order.count)
        steps = _drift(rng, order)
        steps[:, 0], steps[:, 1] = speeds * np.cos(angles), speeds * np.sin(angles)
        return _Motion(steps, _named(speeds, order.fps))

    return motion


def _change(column: int, sign: int, fastest: float) -> Callable[[Rng, _Order], _Motion]:
    """Growth (column 2) or turn (column 3) by at most `fastest` per step."""

    def motion(rng: Rng, order: _Order) -> _Motion:
        speeds = _speeds(rng, order.count, min(order.speed, fastest * order.radius))
        steps = _drift(rng, order)
        steps[:, column] = sign * speeds / order.radius
        return _Motion(steps, _named(speeds, order.fps))

    return motion


def _stillness(_rng: Rng, order: _Order) -> _Motion:
    return _Motion(np.zeros((order.count, 4)), np.arange(order.count) >= _SETTLED)


def _oscillation(rng: Rng, order: _Order) -> _Motion:
    """To and fro at 1.5 to 4 Hz along one direction, or about the centre; named once it has turned back."""
    hertz, heading = rng.uniform(1.5, 4), rng.uniform(0, np.pi)
    amplitude = np.exp(rng.uniform(np.log(0.03), np.log(0.25)))
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * hertz / order.fps * np.arange(order.count + 1)
    swing = np.diff(amplitude * np.sin(phase) * rng.uniform(0.8, 1.2, order.count + 1))
    steps = np.zeros((order.count, 4))
    if rng.random() < 0.3:
        steps[:, 3] = swing / max(order.radius, amplitude / 0.6)
    else:
        steps[:, 0], steps[:, 1] = swing * np.cos(heading), swing * np.sin(heading)
    return _Motion(steps, np.arange(order.count) > np.ceil(0.75 * order.fps / hertz))


_MOTIONS: tuple[Callable[[Rng, _Order], _Motion], ...] = (
    _stillness,
    _translation(np.pi),
    _translation(0.0),
    _translation(-np.pi / 2),
    _translation(np.pi / 2),
    _change(2, 1, 0.2),
    _change(2, -1, 0.2),
    _change(3, 1, 0.5),
    _change(3, -1, 0.5),
    _oscillation,
)


@dataclass(frozen=True)
class Planned:
    """One motion of a plan: its label, its first frame, and the frame after its last one."""

    label: int
    start: int
    end: int


def draw_plan(rng: Rng, frames: int, most: int, first: int) -> list[Planned]:
    """Up to `most` successive motions that fill the frames, beginning with label number `first`; neighbours differ."""
    count = int(rng.integers(1, max(1, min(most, frames // _SHORTEST)) + 1))
    ends = np.cumsum(_SHORTEST + rng.multinomial(frames - count * _SHORTEST, np.full(count, 1 / count)))
    labels = [first]
    while len(labels) < count:
        labels.append(int((labels[-1] + rng.integers(1, len(LABELS))) % len(LABELS)))
    return [Planned(*one) for one in zip(labels, [0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def draw_path(rng: Rng, plan: Sequence[Planned], fps: float, radius: float, roam: float) -> Path:
    """A path of the planned motions.

    radius is the size of the moving thing and roam how far it may travel, both in half picture widths. A motion that
    has gone as far as it may ends early and the scene rests; a path of one motion goes slower instead and lasts.
    """
    frames = plan[-1].end
    steps, labels = np.zeros((frames, 4)), np.full(frames, IGNORE, np.int64)
    for planned in plan:
        label, start, end = planned.label, planned.start, planned.end
        speed = np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))) * 10 / fps
        count = end - start
        limit = np.inf
        if LEFT <= label <= DOWN:
            limit = roam
        elif label in (APPROACHING, RECEDING):
            limit = _LONGEST_ZOOM * radius
        if len(plan) == 1:
            speed = min(speed, limit / count)
        moving = int(min(count, max(4, limit / speed)))
        motion = _MOTIONS[label](rng, _Order(moving, speed, radius, fps))
        steps[start : start + moving] = motion.steps
        labels[start : start + moving][motion.named] = label
        labels[start + moving + _SETTLED : end] = STILL
    steps[0] = 0
    labels[:2] = IGNORE
    return Path(np.cumsum(steps, axis=0), labels)
