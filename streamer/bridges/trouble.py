"""What is said of the other end of a bridge: each kind of trouble once, not once for each of ten thousand events."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

AGAIN_S = 60.0
MOST = 10  # sentences in that time

_log = logging.getLogger(__name__)


class Trouble:
    """Warns of what is wrong with an end, called `whose`, and that it is over. For several threads."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}  # what is wrong, and when that was said
        self._said: deque[float] = deque([-AGAIN_S] * MOST, MOST)  # when the last sentences were
        self._more = 0

    def tell(self, why: str) -> None:
        """Say it, unless it is known since less than a minute."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._told.get(why, -AGAIN_S) < AGAIN_S:
                self._more += 1
            elif self._say(why, now_s):
                self._told[why] = now_s

    def over(self, how: str) -> None:
        """It works; said only if it did not."""
        with self._lock:
            if self._told:
                self._told.clear()
                self._say(how, time.monotonic())

    def _say(self, what: str, now_s: float) -> bool:
        if now_s - self._said[0] < AGAIN_S:
            self._more += 1
            return False
        self._said.append(now_s)
        _log.warning("%s: %s%s", self._whose, what, f" (and {self._more} times more of this)" if self._more else "")
        self._more = 0
        return True
