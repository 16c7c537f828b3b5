"""A camera that hangs and sends its last picture over and over, told from a still scene, whose noise is never twice the
same. Pure.

But encoders that save leave the noise of a still scene out: from one key frame to the next, for 10 s and more, they say
that nothing has changed. A key frame of a healthy camera brings new noise. So a picture is frozen only if a key frame
has shown it again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamer.types import Image

_MOST_S = 1.0  # between two pictures; what is longer was silence, which is another fault
_RECONNECT = 3  # limits after which a new connection may help, and again after as many
_KEYLESS = 10  # limits after which a picture is frozen that no key frame has shown again: there may be none
_ROWS = 8  # one row in so many tells most pictures apart: 20 us at 640x480, 80 us at 1920x1080


class Frozen:
    """Watches a camera's pictures; frozen is one that has been the very same, pixel for pixel, for `limit_s`, with a
    key frame among them; so true.

    for_s  how long the picture has been the same, by the times when pictures came
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.for_s = 0.0
        self._again = False  # a key frame has shown it again
        self._reconnect_s = _RECONNECT * limit_s
        self._seen: Image | None = None
        self._whole: Image | None = None  # of a picture that looked like the one before it
        self._seen_s = 0.0

    def __bool__(self) -> bool:
        return self.for_s >= self.limit_s and (self._again or self.for_s >= _KEYLESS * self.limit_s)

    def see(self, seen: Image, now_s: float, key: bool, whole: Callable[[], Image]) -> bool:
        """Whether the picture that came at `now_s` is a frozen one.

        seen   a part of it, or all of it made smaller: what differs there is not looked at any further
        key    it is a key frame, or one has come since the picture before
        whole  gives all of it, [H, W, 3]
        """
        again, self._seen = self._seen is not None and np.array_equal(self._seen, seen), seen
        before, self._whole = self._whole, whole() if again else None
        if before is not None and self._whole is not None:
            again = _same(before, self._whole)
        if again:
            self.for_s += min(now_s - self._seen_s, _MOST_S)
            self._again |= key and before is not None
        else:
            self.for_s, self._again = 0.0, False
            self._reconnect_s = _RECONNECT * self.limit_s
        self._seen_s = now_s
        return bool(self)

    def wants_connection(self) -> bool:
        """Whether it is time to connect again; says so once, and once more each time it did not help for as long."""
        if self.for_s < self._reconnect_s:
            return False
        self._reconnect_s = self.for_s + _RECONNECT * self.limit_s
        return True


def _same(one: Image, other: Image) -> bool:
    return np.array_equal(one[::_ROWS], other[::_ROWS]) and np.array_equal(one, other)
