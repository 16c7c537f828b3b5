"""The whole program, wired: a capture thread for each source, one thread that runs the engine and publishes.

The only file with threads. One that fails stops the pipeline with its error. A file's end, a camera's disconnect and a
silent camera are three different things.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engines import Engine
from streamer.batcher import Batcher
from streamer.config import Config
from streamer.messages import Message, MessageBuilder
from streamer.meters import Meter
from streamer.publisher import Publisher, wall_us
from streamer.sources import Source
from streamer.sources.reader import Health, Reader
from streamer.stream import Stream, advance
from streamer.types import Frame, Image

IDLE_S = 0.05  # how long the engine's thread sleeps when nothing comes
WATCH_S = 0.2  # how often it looks at the sources
STATUS_S = 5.0
STATE_S = 1.0
JOIN_S = 0.6  # how long shutdown waits for the capture threads, all together

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run did. Percentiles over the last 4096 values, in milliseconds; None if there were none."""

    captured: int
    inferred: int
    events: int
    dropped: dict[str, int]
    reconnects: int
    step_ms_p50: float | None
    step_ms_p99: float | None
    age_ms_p50: float | None
    age_ms_p99: float | None

    def lines(self) -> Iterator[str]:
        """For people."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        yield f"frames  {self.captured} captured, {self.inferred} inferred, dropped: {dropped or 'none'}"
        yield f"labels  {self.events} events, {self.reconnects} reconnects"
        for name, p50, p99 in (("step", self.step_ms_p50, self.step_ms_p99), ("age", self.age_ms_p50, self.age_ms_p99)):
            if p50 is not None:
                yield f"{name:7} p50 {p50:.1f} ms, p99 {p99:.1f} ms{' (from capture to publish)' * (name == 'age')}"


class Capture:
    """One source's thread. A thread that hangs in a driver or a library is abandoned, counted and replaced."""

    def __init__(self, stream: Stream, wake: Callable[[], None]) -> None:
        self.stream = stream
        self.source = stream.source
        self.error: BaseException | None = None
        self._wake = wake
        self._done_captured = self._done_reconnects = 0  # by readers that were replaced
        self.abandoned = 0
        self._begin(0)

    def _begin(self, connection: int) -> None:
        """Start a reader whose connections are numbered from `connection`."""
        stop = threading.Event()
        wait = stop if not self.source.live and self.source.config.pace == "fast" else None

        def push(frame: Frame) -> None:
            if not stop.is_set():  # an abandoned thread that comes back has nothing to say
                self.stream.offer(frame, wait)

        def run() -> None:
            try:
                reader.run()
            except BaseException as error:
                if not stop.is_set():
                    self.error = error
            self._wake()

        self._stop = stop
        self.reader = reader = Reader(self.source, push, stop, connection)
        self.thread = threading.Thread(target=run, name=f"capture {self.stream.name}", daemon=True)
        self.thread.start()

    def replace_if_hung(self, now: float) -> None:
        """Abandon a reader that hangs, at `now` by the monotonic clock, and start another."""
        if not self.reader.hangs(now):
            return
        health = self.reader.health(now)
        self._stop.set()
        self.abandoned += 1
        log.warning("%s: the capture thread hangs in %s; replaced it", self.stream.name, self.source.uri)
        self._done_captured += health.captured
        self._done_reconnects += health.reconnects
        self._begin(self.reader.connections)

    def health(self, now: float) -> Health:
        """The source's condition over all of its readers, at `now` by the monotonic clock."""
        health = self.reader.health(now)
        return replace(
            health,
            captured=self._done_captured + health.captured,
            reconnects=self._done_reconnects + self.abandoned + health.reconnects,
        )

    def stop(self) -> None:
        """Tell the thread to end; it does so within `source.patience_s`, usually at once."""
        self._stop.set()


class Pipeline:
    """Sources -> engine -> label stream, until the sources end, `stop` is set or `config.duration_s` is over.

    listeners  called in the engine's thread with every message, after it was published
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        sources: Sequence[Source],
        publisher: Publisher | None = None,
        listeners: Sequence[Callable[[Message], None]] = (),
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._listeners = listeners
        self._wake = threading.Event()
        spec = engine.spec
        build = publisher.build if publisher else MessageBuilder(spec.version, spec.mode, now_us=wall_us)
        self.streams = [Stream(source, spec, config, build, self._send, self._wake.set) for source in sources]
        self._batcher = Batcher(engine, len(self.streams))
        self._age_ms = Meter()
        self._captures: list[Capture] = []
        self._health: dict[str, Health] = {}
        self._status_due: dict[str, float] = {}
        self._state_due: dict[str, float] = {}

    def run(self, stop: threading.Event) -> Summary:
        """Run in the calling thread. Raises the error of a thread that failed: SourceError, EngineError, ConfigError.

        Whatever ends it, open events end with reason `shutdown`, every stream's last status is `stopped`, and no thread
        stays behind but those that hang in a driver.
        """
        started = time.monotonic()
        ends = started + (self._config.duration_s or float("inf"))
        watch_due = started
        self._captures = [Capture(stream, self._wake.set) for stream in self.streams]
        try:
            while not stop.is_set() and (now := time.monotonic()) < ends:
                self._wake.clear()
                if not self._advance():
                    self._wake.wait(min(IDLE_S, ends - now))
                if self._publisher:
                    self._publisher.poll()
                if now >= watch_due:
                    watch_due = now + WATCH_S
                    if self._watch(now):
                        break
        finally:
            self._shut_down()
        return self.summary()

    def _advance(self) -> bool:
        """One step of the engine, if any stream has a frame."""
        advanced = advance(self._batcher, self.streams, wall_us)
        for stream in advanced:
            if stream.frame_us is not None and stream.source.config.pace == "realtime":
                self._age_ms.add((wall_us() - stream.frame_us) / 1e3)
        return bool(advanced)

    def _watch(self, now: float) -> bool:
        """Look at the sources, tell what changed; True when all have ended."""
        for capture in self._captures:
            if capture.error:
                raise capture.error
            capture.replace_if_hung(now)
            stream, health = capture.stream, capture.health(now)
            if health.state == "ended" and len(stream.ring):
                continue  # not before its last frame has been seen
            before = self._health.get(stream.name)
            self._health[stream.name] = health
            if health.state != "online":
                stream.interrupt("shutdown" if health.state == "ended" else "gap")
                if now >= self._state_due.get(stream.name, 0):
                    self._state_due[stream.name] = now + STATE_S
                    stream.repeat_state()
            # the detail may tell for how long, and would be news all the time
            changed = before is None or before.state != health.state
            if changed or now >= self._status_due.get(stream.name, 0):
                self._status_due[stream.name] = now + STATUS_S
                stream.status(health.state, health.detail, **self._counts(health))
        ended = [health.state == "ended" for health in self._health.values()]
        return len(ended) == len(self._captures) and all(ended)

    def _counts(self, health: Health) -> dict[str, Any]:
        step_ms = self._batcher.step_ms
        return {
            "captured": health.captured,
            "reconnects": health.reconnects,
            "fps_in": round(health.fps_in, 2) or None,
            "step_ms_p50": step_ms.percentile(50),
            "step_ms_p99": step_ms.percentile(99),
        }

    def _send(self, message: Message) -> None:
        if self._publisher:
            self._publisher.send(message)
        for listener in self._listeners:
            listener(message)

    def _shut_down(self) -> None:
        for capture in self._captures:
            capture.stop()
        deadline = time.monotonic() + JOIN_S
        for capture in self._captures:
            capture.thread.join(max(0.0, deadline - time.monotonic()))
            if capture.thread.is_alive():
                log.warning("%s: the capture thread still hangs in %s", capture.stream.name, capture.source.uri)
        for capture in self._captures:
            capture.stream.interrupt("shutdown")
            capture.stream.status("stopped", **self._counts(capture.health(time.monotonic())))
        if self._publisher:
            self._publisher.close()

    def picture(self, name: str) -> Image | None:
        """The newest frame of a stream that was converted for the network; None if there is none."""
        return next((stream.picture for stream in self.streams if stream.name == name), None)

    def details(self) -> list[str]:
        """What is wrong with the sources, each in a sentence."""
        return [health.detail for health in self._health.values() if health.detail]

    def summary(self) -> Summary:
        """What the run did so far."""
        dropped: Counter[str] = Counter()
        for capture in self._captures:
            dropped.update(capture.stream.dropped)
        health = [capture.health(time.monotonic()) for capture in self._captures]
        return Summary(
            captured=sum(one.captured for one in health),
            inferred=sum(stream.inferred for stream in self.streams),
            events=sum(stream.started for stream in self.streams),
            dropped={reason: count for reason, count in dropped.items() if count},
            reconnects=sum(one.reconnects for one in health),
            step_ms_p50=self._batcher.step_ms.percentile(50),
            step_ms_p99=self._batcher.step_ms.percentile(99),
            age_ms_p50=self._age_ms.percentile(50),
            age_ms_p99=self._age_ms.percentile(99),
        )
