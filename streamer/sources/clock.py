"""When a frame was captured, in microseconds UTC: from what cameras say about time and what arrival says."""

from __future__ import annotations

import time

_SINCE_START = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps
_OFF_NS = 100_000_000  # a clock that is off by more than this was set; NTP slews what is less, and this one with it
_WAITED_NS, _READINGS = 20_000_000, 10
_JUMP_US = 1_000_000  # a camera's clock that is off by more than this has jumped
_CONFIRM_US = 1_000_000  # frames that are late for longer than this are not a burst
_LEAK = 2_000  # the anchor may rise by 1/2000 = 500 ppm: more than two quartz clocks differ, less than anyone sees


class UtcClock:
    """UTC in microseconds that runs evenly: the monotonic clock plus an offset, until one of them is off.

    The time of this machine was set: the offset follows, and `set_us` tells by how much. The machine slept: the offset
    follows, too; nothing was set.

    set_us  by how much the wall clock has been set so far, microseconds; positive is ahead
    """

    def __init__(self) -> None:
        self._slept_ns, self._wall_ns = _offsets_ns()
        self.set_us = 0

    def now_us(self) -> int:
        """The time now."""
        return self.utc_us(time.monotonic_ns() // 1000)

    def utc_us(self, monotonic_us: int) -> int:
        """The UTC time of a reading of the monotonic clock, told by the time that is set now."""
        slept_ns, wall_ns = _offsets_ns()
        if abs(slept_ns - self._slept_ns) > _OFF_NS:
            self._slept_ns = slept_ns
        if abs(wall_ns - self._wall_ns) > _OFF_NS:
            self.set_us += (wall_ns - self._wall_ns) // 1000
            self._wall_ns = wall_ns
        return monotonic_us + (self._slept_ns + self._wall_ns) // 1000


def _offsets_ns() -> tuple[int, int]:
    """How long this machine has slept, and when it was started by the wall clock, nanoseconds.

    Readings between which this thread had to wait say nothing, and are taken again.
    """
    for _ in range(_READINGS):
        before_ns = time.monotonic_ns()
        started_ns, wall_ns = time.clock_gettime_ns(_SINCE_START), time.time_ns()
        if time.monotonic_ns() - before_ns < _WAITED_NS:
            break
    return started_ns - before_ns, wall_ns - started_ns


class CaptureClock:
    """Maps the timestamps of one connection to UTC. Pure: arrival times are given. Its output increases until this
    machine's clock is set, and moves with it.

    A camera's own UTC time (`prft`) is used where it can be true: not in the future, at most 1 s old. Otherwise the
    camera's timestamps give the distances and arrival gives the place: `offset` = arrival - timestamp of the frame
    that came with the least delay, a minimum that leaks upwards, so that it follows a camera clock which is slower
    than ours.

    When the camera's clock leaps ahead, the minimum follows at once; when it leaps back or stands still, the offset is
    taken anew. Frames that are late all of a sudden are usually a burst after a hiccup of the network, and keep their
    times; if they stay late, the camera's clock was held up for a while, and the offset is taken anew too.
    """

    def __init__(self) -> None:
        self._offset: int | None = None
        self._pts = self._arrival = 0
        self._late_since: int | None = None
        self._last = -1
        self._set = 0

    def utc_us(self, pts_us: int | None, arrival_us: int, reference_us: int | None = None, set_us: int = 0) -> int:
        """The capture time of a frame.

        pts_us: by the camera's clock, from any zero; None if unknown. arrival_us: now, UTC. reference_us: what the
        camera says UTC was. set_us: by how much the clock that tells `arrival_us` has been set so far.
        """
        self._move(set_us - self._set)
        self._set = set_us
        captured = arrival_us if pts_us is None else pts_us + self._anchored(pts_us, arrival_us, reference_us)
        self._last = max(captured, self._last + 1)
        return self._last

    def _move(self, by_us: int) -> None:
        """Somebody set this machine's clock: what is remembered is told by the new one."""
        self._arrival += by_us
        self._last += by_us
        if self._offset is not None:
            self._offset += by_us
        if self._late_since is not None:
            self._late_since += by_us

    def _anchored(self, pts: int, arrival: int, reference: int | None) -> int:
        """The offset from the camera's timestamps to UTC, after this frame."""
        observed = arrival - pts
        late_since = None
        if reference is not None and 0 <= arrival - reference <= _JUMP_US:
            offset = reference - pts
        elif self._offset is None or pts <= self._pts:
            offset = observed
        else:
            offset = min(self._offset + (arrival - self._arrival) // _LEAK, observed)
            if observed - offset > _JUMP_US:
                late_since = arrival if self._late_since is None else self._late_since
                if arrival - late_since > _CONFIRM_US:
                    offset, late_since = observed, None
        self._offset, self._pts, self._arrival, self._late_since = offset, pts, arrival, late_since
        return offset
