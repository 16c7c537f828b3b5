"""The thread that reads a source, watched: one that hangs is replaced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from streamer.pipeline.stream import Stream
from streamer.sources.reader import Health, Reader
from streamer.types import Frame

log = logging.getLogger(__name__)

WORK_S = 2.0  # how long a thread's work is measured
MOST_HUNG = 3  # threads of one source that may hang at a time


class Capture:
    """One source's thread. A thread that hangs in a driver or a library is abandoned, counted and replaced, until three
    hang at a time.

    streams  that are made of it
    added    they came while the pipeline ran. If their source cannot be read they leave, and the others go on
    """

    def __init__(self, streams: Sequence[Stream], wake: Callable[[], None], *, added: bool = False) -> None:
        self.streams = [*streams]
        self.added = added
        self.intake = streams[0].intake
        self.source = self.intake.source
        self.error: BaseException | None = None
        self._wake = wake
        self._done_captured = self._done_reconnects = 0  # by readers that were replaced
        self.abandoned = 0
        self._hung: list[threading.Thread] = []
        self._work = (0.0, 0.0, 0.0)  # when the thread's work was measured, all of it, and what it is a second
        self._begin(0)

    def _begin(self, connection: int) -> None:
        """Start a reader whose connections are numbered from `connection`."""
        stop, intake = threading.Event(), self.intake
        wait = stop if not self.source.live and self.source.config.pace == "fast" else None

        def push(frame: Frame) -> None:  # knows nothing of `self`: whole rings would wait for the garbage collector
            if not stop.is_set():  # an abandoned thread that comes back has nothing to say
                intake.offer(frame, wait)

        def run() -> None:
            try:
                reader.run()
            except BaseException as error:
                if not stop.is_set():
                    self.error = error
            self._wake()

        self._stop = stop
        self.reader = reader = Reader(self.source, push, stop, connection)
        self.thread = threading.Thread(target=run, name=f"capture {self.source.name}", daemon=True)
        self.thread.start()

    def replace_if_hung(self, now: float) -> None:
        """Abandon a reader that hangs, at `now` by the monotonic clock, and start another."""
        if self._stop.is_set() or not self.reader.hangs(now) or self.stuck:
            return
        health = self.reader.health(now)
        self._stop.set()
        self.abandoned += 1
        told = {"stream": self.source.name}
        log.warning("%s: the capture thread hangs in %s; replaced it", self.source.name, self.source.uri, extra=told)
        self._hung = [*self._hung, self.thread]
        self._done_captured += health.captured
        self._done_reconnects += health.reconnects
        self._begin(self.reader.connections)

    @property
    def stuck(self) -> bool:
        """Whether so many threads hang that no other is started until one returns."""
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        return len(self._hung) + 1 >= MOST_HUNG

    @property
    def threads(self) -> int:
        """How many of its threads have not ended."""
        return sum(thread.is_alive() for thread in (self.thread, *self._hung))

    def health(self, stream: Stream, now: float) -> Health:
        """The source's condition over all of its readers, at `now` by the monotonic clock, for one of its streams."""
        health = self.reader.health(now)
        if health.state == "online" and (frozen := self.intake.frozen):
            health = replace(health, state="stalled", detail=frozen)
        elif health.state == "online" and (slowness := stream.slowness.sentence):
            health = replace(health, detail=slowness)
        if self.reader.hangs(now) and self.stuck:
            detail = f"{self.source.uri}: {MOST_HUNG} threads hang in it, so no other is started until one returns"
            health = replace(health, state="offline", detail=detail)
        return replace(
            health,
            captured=self._done_captured + health.captured,
            reconnects=self._done_reconnects + self.abandoned + health.reconnects,
        )

    def work_ms(self, now: float) -> float:
        """Processor time that its thread takes for a second, above all to decode, milliseconds; 0: not known yet.

        Measured from one call to a later one; now: by the monotonic clock.
        """
        at_s, before_s, told = self._work
        if now - at_s < WORK_S or not self.thread.ident or not hasattr(time, "pthread_getcpuclockid"):
            return told
        with suppress(OSError):  # it has ended
            work_s = time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident))
            told = round((work_s - before_s) / (now - at_s) * 1000, 1) if at_s and work_s >= before_s else told
            self._work = (now, work_s, told)
        return told

    def stop(self) -> None:
        """Tell the thread to end; it does so within `source.patience_s`, usually at once."""
        self._stop.set()
