"""A pipe or standard input as a file that FFmpeg reads."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

_LOOK_MS = 100  # how often a wait looks whether it should stop


class Pipe:
    """Reads a pipe; a wait for its writer ends with `stop`, where opening or reading it plainly would hang for ever.

    path: None for standard input, which stays open.
    """

    def __init__(self, path: Path | None, stop: threading.Event) -> None:
        self._stop = stop
        self._descriptor = os.dup(0) if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, most: int, /) -> bytes:
        """At most so many bytes, as soon as there are any; empty when the writers have closed it, and at `stop`."""
        while not self._stop.is_set():
            if self._poll.poll(_LOOK_MS):
                return os.read(self._descriptor, most)
        return b""

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
