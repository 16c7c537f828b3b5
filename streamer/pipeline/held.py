"""Frames of a stream that waits for its state from another run, which has seen those before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamer.pipeline.ring import Origin, Ring
from streamer.types import Image


class Held:
    """Stands before a ring: gives nothing until `go_on`, then the frames after a time, and then leaves.

    ready  the engine has a row for the stream, and frames have come
    """

    def __init__(self, ring: Ring, realtime: bool) -> None:
        self._ring, self._realtime = ring, realtime
        self._after_us: int | None = None
        self._backlog = 0
        self._leave: Callable[[Ring], None] = lambda _: None
        self.ready = False

    def __len__(self) -> int:
        return 0 if self._after_us is None else len(self._ring)

    @property
    def waits_since_s(self) -> float | None:
        """As of the ring."""
        return self._ring.waits_since_s

    @property
    def dropped(self) -> dict[str, int]:
        """As of the ring."""
        return self._ring.dropped

    @dropped.setter
    def dropped(self, dropped: dict[str, int]) -> None:
        self._ring.dropped = dropped

    def go_on(self, after_us: int, leave: Callable[[Ring], None]) -> None:
        """Give the frames after this time. leave: called with the ring, when those that waited are through."""
        self._after_us, self._backlog, self._leave = after_us, len(self._ring), leave

    def pop(self, out: Image) -> Origin | None:
        """As of the ring; `out` may be overwritten even when there is no frame."""
        if self._after_us is None:
            self.ready = len(self._ring) > 0
            while self._realtime and len(self._ring) > max(1, self._ring.capacity - 1):
                self._ring.pop(out)  # or it would count as dropped since the engine is too slow
            return None
        while origin := self._ring.pop(out):
            self._backlog -= 1
            if origin.time_us > self._after_us:
                if self._backlog < 0:
                    self._leave(self._ring)
                return replace(origin, arrived_s=None) if self._backlog >= 0 else origin  # it is not late by itself
        return None

    def close(self) -> int:
        """As of the ring."""
        return self._ring.close()
