"""How long a frame waited before it was read: in the kernel, in a library, while the reader was stopped. Pure."""

from __future__ import annotations

_LEAK = 2_000  # the least delay may rise by 1/2000: more than two quartz clocks differ
_LATE_US = 20_000  # less than this is jitter
_STEADY_S = 1.0  # a backlog gets less; what stays late for this long is a camera's clock that was held up


class Waited:
    """Compares when the frames of one connection come with the camera's timestamps.

    The frame that came with the least delay has not waited; any other waited for as much as its delay is longer.
    """

    def __init__(self) -> None:
        self._least_us: int | None = None  # arrival - timestamp
        self._pts_us = 0
        self._now_s = 0.0
        self._late_us = 0  # the least delay since frames are late, and when it got less
        self._late_s: float | None = None

    def wait_s(self, pts_us: int | None, now_s: float) -> float:
        """How long the frame with this timestamp waited, that is read now, by the monotonic clock; 0 if unknown."""
        if pts_us is None:
            return 0.0
        observed = round(now_s * 1e6) - pts_us
        if self._least_us is None or pts_us <= self._pts_us:
            least = observed
        else:
            least = min(self._least_us + round((now_s - self._now_s) * 1e6) // _LEAK, observed)
            if self._stays_late(observed - least, observed, now_s):
                least = observed
        self._least_us, self._pts_us, self._now_s = least, pts_us, now_s
        return (observed - least) / 1e6

    def _stays_late(self, late_us: int, delay_us: int, now_s: float) -> bool:
        """Whether frames are late, and have not become less so for a second."""
        if late_us < _LATE_US:
            self._late_s = None
        elif self._late_s is None or delay_us < self._late_us:
            self._late_us, self._late_s = delay_us, now_s
        elif now_s - self._late_s > _STEADY_S:
            self._late_s = None
            return True
        return False
