"""Readers at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.reader import Health, Reader
from streamer.types import Frame


class Started:
    """A reader in its thread, with what it gave."""

    def __init__(self, source: Source, stop: threading.Event) -> None:
        self.frames: list[Frame] = []
        self.error: SourceError | None = None
        self.reader = Reader(source, self.frames.append, stop)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.reader.run()
        except SourceError as error:
            self.error = error

    def health(self, later_s: float = 0) -> Health:
        return self.reader.health(time.monotonic() + later_s)


StartReader = Callable[[Source], Started]


@pytest.fixture
def start_reader() -> Iterator[StartReader]:
    """Start readers; they end with the test."""
    stop, started = threading.Event(), []

    def one(source: Source) -> Started:
        started.append(Started(source, stop))
        return started[-1]

    yield one
    stop.set()
    for each in started:
        each.thread.join(20)
        assert not each.thread.is_alive()
