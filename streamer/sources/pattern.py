"""A drawn scene with known motions, at pattern://swipe?fps=30&size=640x480&seed=1: for demonstrations and tests."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from engines.opencv import cv2
from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.clock import UtcClock
from streamer.types import Frame, Image, Timeline

_MOST_FPS, _MOST_PIXELS, _MOST_S = 240, 1920 * 1080, 1e6
_OBJECT = 0.36  # side of the object at rest, in picture heights


class Pose(NamedTuple):
    """Where the object is, from the picture's centre: in picture widths and heights (y down); angle: clockwise, rad."""

    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    angle: float = 0.0


_MOTIONS: dict[str, Callable[[Pose, float], Pose]] = {  # the pose t seconds after the start of a motion
    "still": lambda pose, _: pose,
    "moving left": lambda pose, t: pose._replace(x=pose.x - 0.3 * t),
    "moving right": lambda pose, t: pose._replace(x=pose.x + 0.3 * t),
    "moving up": lambda pose, t: pose._replace(y=pose.y - 0.28 * t),
    "moving down": lambda pose, t: pose._replace(y=pose.y + 0.28 * t),
    "approaching": lambda pose, t: pose._replace(size=pose.size * 1.6**t),
    "receding": lambda pose, t: pose._replace(size=pose.size / 1.6**t),
    "turning clockwise": lambda pose, t: pose._replace(angle=pose.angle + math.radians(80) * t),
    "turning counterclockwise": lambda pose, t: pose._replace(angle=pose.angle - math.radians(80) * t),
    "shaking": lambda pose, t: pose._replace(x=pose.x + 0.1 * math.sin(2 * math.pi * 2.5 * t)),
}

# (label, seconds): it ends where it began, so it repeats without a jump, and the object stays in the picture
_SWIPE = (
    *(("moving left", 1.1), ("moving right", 2.2), ("moving left", 1.1), ("approaching", 2.0), ("receding", 2.0)),
    *(("shaking", 2.0), ("turning clockwise", 2.2), ("turning counterclockwise", 2.2)),
    *(("moving up", 1.1), ("moving down", 2.2), ("moving up", 1.1)),
)
_SCRIPTS = {
    "swipe": tuple(step for motion in _SWIPE for step in (("still", 0.8), motion)),
    "still": (("still", 1.0),),
}


class PatternSource(Source):
    """A textured object on a textured background that performs a script of motions, over and over.

    pattern://swipe shows every motion in 28 s, pattern://still none. Parameters: fps (30; at most 240), size (640x480;
    at most 1920x1080), seed (0: the textures), duration (seconds, then it ends like a file). Pace `realtime` comes and
    is stamped like a camera, `fast` like a file.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        parts = urlsplit(config.uri)
        kind = parts.netloc + parts.path
        if kind not in _SCRIPTS:
            raise SourceError(f"{self.uri}: there is no pattern {kind!r}; the patterns are {', '.join(_SCRIPTS)}")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := given.keys() - {"fps", "size", "seed", "duration"}:
            raise SourceError(f"{self.uri}: unknown parameter {min(unknown)!r}; there are fps, size, seed and duration")
        self.fps = self._number("fps", given.get("fps", "30"), _MOST_FPS)
        self.duration_s = self._number("duration", given["duration"], _MOST_S) if "duration" in given else math.inf
        width, height = self._match(
            "size", given.get("size", "640x480"), r"(\d{2,4})x(\d{2,4})", "WIDTHxHEIGHT, such as 640x480"
        )
        self._size = int(width), int(height)
        if math.prod(self._size) > _MOST_PIXELS:
            raise SourceError(f"{self.uri}: size is {width}x{height}; 1920x1080 is the largest")
        (seed,) = self._match("seed", given.get("seed", "0"), r"(\d{1,9})", "a whole number")
        self.live = self.duration_s == math.inf
        self._seed = int(seed)
        self._script = _Script(_SCRIPTS[kind])
        self._start_us = 0

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        realtime = self.config.pace == "realtime"
        utc, began_us = UtcClock(), time.monotonic_ns() // 1000
        self._start_us, scene = 0, _Scene(*self._size, self._seed)
        for index in itertools.count():
            at_s = index / self.fps
            due = began_us / 1e6 + at_s if realtime else None
            stopped = stop.is_set() if due is None else stop.wait(due - time.monotonic())
            if stopped or at_s >= self.duration_s:
                return
            if realtime:
                self._start_us = utc.utc_us(began_us)
            time_us, draw = self._start_us + round(at_s * 1e6), partial(scene.draw, self._script.at(at_s)[1])
            yield Frame(time_us, index, connection, draw, due, Timeline(set_us=utc.set_us))

    def truth(self, time_us: int) -> str:
        """What the object does at this time of a frame, in the connection that was begun last."""
        return self._script.at((time_us - self._start_us) / 1e6)[0]

    def _number(self, key: str, text: str, most: float) -> float:
        """A positive number, not too large."""
        self._match(key, text, r"(\d+\.?\d*)", "a positive number")
        if not 0.01 <= float(text) <= most:
            raise SourceError(f"{self.uri}: {key} is {text}; give a number from 0.01 to {most:g}")
        return float(text)

    def _match(self, key: str, text: str, form: str, words: str) -> tuple[str, ...]:
        """The groups of a parameter's form."""
        match = re.fullmatch(form, text)
        if not match:
            raise SourceError(f"{self.uri}: {key} is {text!r}; give {words}")
        return match.groups()


class _Script:
    """Motions one after the other, repeated for ever."""

    def __init__(self, steps: tuple[tuple[str, float], ...]) -> None:
        self._steps = steps
        self._ends = list(itertools.accumulate(seconds for _, seconds in steps))
        self._poses = [Pose()]
        for label, seconds in steps:
            self._poses.append(_MOTIONS[label](self._poses[-1], seconds))

    def at(self, time_s: float) -> tuple[str, Pose]:
        """The motion and the pose at a time."""
        time_s %= self._ends[-1]
        step = bisect_right(self._ends, time_s)
        label, seconds = self._steps[step]
        return label, _MOTIONS[label](self._poses[step], time_s - self._ends[step] + seconds)


class _Scene:
    """The background and the object, made from a seed."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._background = _texture(rng, width, height, cells=9, low=70, high=150)
        side = max(8, round(_OBJECT * min(height, 0.75 * width)))
        self._object = _texture(rng, side, side, cells=4, low=0, high=255)

    def draw(self, pose: Pose) -> Image:
        """The picture [H, W, 3] with the object in this pose."""
        picture = self._background.copy()
        height, width = picture.shape[:2]
        cos, sin = pose.size * math.cos(pose.angle), pose.size * math.sin(pose.angle)
        turn = np.array([[cos, -sin], [sin, cos]])  # y points down, so this turns clockwise
        centre = np.array([(0.5 + pose.x) * width, (0.5 + pose.y) * height])
        middle = np.full(2, self._object.shape[0] / 2)
        matrix = np.column_stack([turn, centre - turn @ middle])
        cv2.warpAffine(self._object, matrix, (width, height), dst=picture, borderMode=cv2.BORDER_TRANSPARENT)
        return picture


def _texture(rng: np.random.Generator, width: int, height: int, cells: int, low: int, high: int) -> Image:
    """Smooth coloured patches with fine grain on them, [height, width, 3]."""
    patches, grain = (rng.integers(low, high, (n, n, 3)).astype(np.float32) for n in (cells, 8 * cells))
    smooth, fine = (cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) for grid in (patches, grain))
    return np.asarray(0.7 * smooth + 0.3 * fine).clip(0, 255).astype(np.uint8)
