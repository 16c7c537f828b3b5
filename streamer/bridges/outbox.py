"""A queue between the label stream and an end that may be slow, or away: bounded, and what it loses is counted."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """At most `most` things wait; then the oldest makes room, and is counted in `dropped`. For several threads."""

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, thing: T) -> None:
        """Returns at once."""
        with self._changed:
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(thing)
            self._changed.notify()

    def take(self) -> T | None:
        """The oldest thing, as soon as there is one; None: closed, and nothing waits any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Nothing comes any more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop what waits."""
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
