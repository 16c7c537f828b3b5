"""Camera time -> network time: which frames the network sees, chosen by their timestamps. Pure, in integers.

A network was trained at some rate; cameras run at any rate, with jitter, bursts and holes. The sampler lays a grid of
the network's period over the timestamps, anchored at the first frame, and takes the frame nearest to each grid point:

    frame t is taken when t >= due - min(t - previous, P) / 2        (the next frame would be farther from `due`)

It is idempotent: sampler(sampler(x)) == sampler(x). So one sampler before the ring decides which frames are worth
converting and another one behind the ring, which also sees what the ring dropped, decides what the network is told;
they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import msgspec

from streamer.types import ONE_TIMELINE, Timeline

GapReason = Literal["gap", "reconnect", "clock"]


@dataclass(frozen=True, slots=True)
class Gap:
    """The network's time has a hole: between the last frame taken and this one.

    clock: the time of this machine was set, or a camera's clock was; `to_us` may be before `from_us`.
    """

    from_us: int
    to_us: int
    reason: GapReason


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to take a frame; with a gap, the temporal state must start anew before it.

    missed: frames that the network would have taken since the one before, had there been any
    """

    take: bool
    gap: Gap | None = None
    missed: int = field(default=0, compare=False)


SKIP = Decision(take=False)
TAKE = Decision(take=True)


class SamplerMemory(msgspec.Struct, frozen=True):
    """Where a sampler stands, in JSON: its grid begins at `origin_us`, and the `due`-th point of it wants a frame."""

    origin_us: int
    taken_us: int
    latest_us: int
    due: int
    step: int


class Sampler:
    """Takes the frames of one stream at `rate_hz`; more than `max_gap` periods between two frames taken is a gap.

    When load is shed, only every n-th of the frames that one sampler took is offered to the next one. It is told n, the
    `step`, and a gap is n times as long.

    Inside, times are integers in units of 1/n microseconds, where rate_hz = n/d: every grid point is exact and the
    grid never drifts.
    """

    def __init__(self, rate_hz: float, max_gap: float = 3.0) -> None:
        rate = Fraction(rate_hz).limit_denominator(1_000_000)
        self._scale = rate.numerator
        self._period = 1_000_000 * rate.denominator
        self._max_gap = round(max_gap * self._period)
        self._connection: int | None = None
        self._goes_on = False  # with what another sampler took
        self._timeline = ONE_TIMELINE
        self._origin = self._due = 0  # the grid: its first point, the next one that wants a frame
        self._taken = self._latest = 0  # the last frame taken, the latest one offered
        self._step = 1  # of the last frame offered

    def offer(
        self, time_us: int, connection: int, step: int = 1, timeline: Timeline = ONE_TIMELINE, patience_us: int = 0
    ) -> Decision:
        """Decide about the next frame: captured at `time_us`, over the source's connection number `connection`.

        step: how many periods the frame after this one will be away. timeline: what `time_us` is told by. patience_us:
        a distance that is usual for the source, and so no gap.
        """
        before, self._step = self._step, step
        known, self._timeline = self._timeline, timeline
        t = time_us * self._scale
        if self._connection is None:
            self._connection = connection
            if not self._goes_on:
                return self._anchor(t, None)
            known = timeline
        if connection != self._connection:
            self._connection = connection
            return self._anchor(t, "reconnect")
        if t <= self._taken - self._period or timeline.set_us != known.set_us:
            return self._anchor(t, "clock")
        longest = max(self._max_gap, patience_us * self._scale) * before
        if t - self._taken > longest or timeline.piece != known.piece:
            return self._anchor(t, "gap")
        wait = min(t - self._latest, self._period)  # how far the next frame is expected to be
        self._latest = max(self._latest, t)
        if 2 * (self._due - t) > wait:
            return SKIP
        nearest = (2 * (t - self._origin) + self._period) // (2 * self._period)
        missed = nearest - (self._due - self._origin) // self._period
        self._due = self._origin + (nearest + 1) * self._period
        self._taken = t
        return Decision(take=True, missed=missed) if missed > 0 else TAKE

    def memory(self) -> SamplerMemory:
        """Where this sampler stands, which has taken a frame."""
        origin, taken, latest = (value // self._scale for value in (self._origin, self._taken, self._latest))
        return SamplerMemory(origin, taken, latest, (self._due - self._origin) // self._period, self._step)

    def recall(self, memory: SamplerMemory) -> None:
        """Go on where another sampler stood, of the same rate, over whatever connection the next frame comes."""
        self._origin, self._taken, self._latest = (
            value * self._scale for value in (memory.origin_us, memory.taken_us, memory.latest_us)
        )
        self._due, self._step = self._origin + memory.due * self._period, memory.step
        self._connection, self._goes_on = None, True

    def _anchor(self, t: int, reason: GapReason | None) -> Decision:
        """Take the frame at t and let the grid begin there."""
        gap = Gap(self._taken // self._scale, t // self._scale, reason) if reason else None
        self._origin = self._taken = self._latest = t
        self._due = t + self._period
        return Decision(take=True, gap=gap)
