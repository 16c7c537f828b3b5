"""Who looks after the sources: threads that hang, silent cameras, streams that come and go, clocks that are set.

A file's end, a camera's disconnect and a silent camera are three different things.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from engines.errors import did_you_mean
from streamer.errors import ConfigError, SourceError
from streamer.labels.commands import StreamReport
from streamer.labels.messages import SourceState
from streamer.labels.publisher import wall_us
from streamer.pipeline.capture import Capture
from streamer.pipeline.shedding import Load
from streamer.pipeline.stream import Stream
from streamer.pipeline.summary import Totals
from streamer.sources.clock import UtcClock
from streamer.sources.reader import Health
from streamer.text import redact

STATUS_S = 5.0
STATE_S = 1.0
JOIN_S = 0.6  # how long shutdown waits for the capture threads, all together

log = logging.getLogger(__name__)


class Watch:
    """The streams of a run, and the threads that read them. `conditions` is for any thread, all else for the engine's.

    streams  those that run now
    epochs   of the streams that were removed, in case they come back
    past     what they had counted
    load     whether load is shed
    step_ms  a percentile of how long the engine's steps took, milliseconds
    wake     is called when there is something to look at
    forget   is called with the name of a stream that is no more
    """

    def __init__(
        self,
        load: Load,
        step_ms: Callable[[float], float | None],
        wake: Callable[[], None],
        forget: Callable[[str], None],
    ) -> None:
        self.streams: list[Stream] = []
        self.epochs: dict[str, int] = {}
        self.past = Totals()
        self._load, self._step_ms, self._wake, self._forget = load, step_ms, wake, forget
        self._captures: list[Capture] = []
        self._leaving: list[Capture] = []
        self._health: dict[str, Health] = {}
        self._told: dict[str, tuple[object, ...]] = {}  # what the last status was about
        self._warned: dict[str, set[str]] = {}
        self._status_due: dict[str, float] = {}
        self._state_due: dict[str, float] = {}
        self._clock, self._set_us = UtcClock(), 0

    @property
    def leaving(self) -> int:
        """Threads of streams that were removed, which have not ended yet."""
        return sum(capture.threads for capture in self._leaving)

    def begin(self) -> None:
        """Read all sources from now on."""
        for intake in dict.fromkeys(stream.intake for stream in self.streams):
            self._captures.append(Capture([one for one in self.streams if one.intake is intake], self._wake))

    def add(self, streams: Sequence[Stream]) -> None:
        """The streams of one more source, read from now on; should that fail, they leave and the others go on."""
        self.streams += streams
        self._captures.append(Capture(streams, self._wake, added=True))

    def look(self, now: float) -> bool:
        """Look at the sources, tell what changed; True when all have ended. `now`: by the monotonic clock."""
        self._look_at_clock()
        self._leaving = [capture for capture in self._leaving if capture.threads]
        for capture in list(self._captures):
            if capture.added and isinstance(capture.error, Exception):  # at worst it is removed again
                unexpected = not isinstance(capture.error, SourceError)
                kind = f"{type(capture.error).__name__}: " * unexpected
                detail = kind + redact(str(capture.error))
                for stream in list(capture.streams):
                    self.fail(stream, detail)
                continue
            if capture.error:
                raise capture.error
            capture.replace_if_hung(now)
            for stream in capture.streams:
                health = capture.health(stream, now)
                if stream.held is not None:  # another run speaks for it
                    continue
                if health.state != "ended" or not stream.waiting:  # its last frame has been seen
                    self._tell(stream, health, now)
        ended = [health.state == "ended" for health in self._health.values()]
        return bool(ended) and len(ended) == len(self.streams) and all(ended)

    def repeat(self) -> None:
        """Tell how every stream is that was told of, whatever was told: by another model now."""
        self._told.clear()
        self._warned.clear()
        now = time.monotonic()
        for stream, health in self.conditions():
            if stream.name in self._health:
                self._tell(stream, health, now)

    def _look_at_clock(self) -> None:
        self._clock.now_us()
        by_us, self._set_us = self._clock.set_us - self._set_us, self._clock.set_us
        if by_us:
            log.warning("the clock of this machine was set by %+.1f s; every stream starts anew by it", by_us / 1e6)

    def _tell(self, stream: Stream, health: Health, now: float) -> None:
        """The stream's label while its source is away, and its status: at each change, and every few seconds."""
        name, before = stream.name, self._health.get(stream.name)
        self._health[name] = health
        if health.state != "online":
            stream.interrupt("shutdown" if health.state == "ended" else "gap")
            if now >= self._state_due.get(name, 0):
                self._state_due[name] = now + STATE_S
                stream.repeat_state()
        state, detail = self._load.condition(stream, health)
        for kind in stream.slowness.spells.keys() - self._warned.get(name, set()):
            self._warned.setdefault(name, set()).add(kind)
            log.warning("%s: %s", name, stream.slowness.spells[kind], extra={"stream": name})
        # the detail may tell for how long, and would be news all the time
        about = state, self._load.stage, stream.slowness.kind, stream.source.note
        if self._told.get(name) == about and now < self._status_due.get(name, 0):
            return
        if before is None or before.state != health.state:
            log.info(f"source {health.state} {health.detail}".rstrip(), extra={"stream": name})
        self._told[name], self._status_due[name] = about, now + STATUS_S
        stream.status(state, detail, **self._counts(health))

    def _counts(self, health: Health) -> dict[str, Any]:
        now_us, now = wall_us(), time.monotonic()
        since_us, retry_us = (
            None if at_s is None else now_us + round((at_s - now) * 1e6) for at_s in (health.since_s, health.retry_s)
        )
        return {
            "since_us": since_us,
            "retry_us": retry_us,
            "captured": health.captured,
            "reconnects": health.reconnects,
            "stage": self._load.stage,
            "fps_in": round(health.fps_in, 2) or None,
            "step_ms_p50": self._step_ms(50),
            "step_ms_p99": self._step_ms(99),
        }

    def find(self, name: str) -> Stream:
        """The stream of this name. ConfigError if there is none."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        names = [stream.name for stream in self.streams]
        hint = did_you_mean(name, names, f"there are {', '.join(names) or 'none'}")
        raise ConfigError(f"there is no stream {name[:64]!r}; {hint}")

    def fail(self, stream: Stream, detail: str) -> None:
        """A stream leaves that nobody asked to; `detail` says why."""
        log.warning("%s: removed: %s", stream.name, detail)
        self.end(stream, detail)

    def end(self, stream: Stream, detail: str = "") -> None:
        """A stream leaves while the others go on; `detail` is for its last status."""
        capture = next(capture for capture in self._captures if stream in capture.streams)
        name = stream.name
        capture.streams.remove(stream)
        if not capture.streams:
            capture.stop()
            capture.error = None  # its traceback would keep the stream until the garbage collector comes
            self._captures.remove(capture)
            self._leaving.append(capture)
        stream.intake.leave(name)
        stream.interrupt("shutdown")
        health = capture.health(stream, time.monotonic())
        stream.status("stopped", detail, **self._counts(health))
        self.past.add(stream, health)
        self.streams.remove(stream)
        self.epochs[name] = stream.epoch
        for known in (self._health, self._told, self._warned, self._status_due, self._state_due):
            known.pop(name, None)
        self._forget(name)

    def stop(self) -> None:
        """Take no more frames."""
        for capture in self._captures:
            capture.stop()

    def close(self) -> None:
        """End the open events, tell that every stream has stopped, and wait a little for the threads to end."""
        self.stop()
        deadline = time.monotonic() + JOIN_S
        for capture in (*self._captures, *self._leaving):
            capture.thread.join(max(0.0, deadline - time.monotonic()))
            if capture.thread.is_alive():
                name, uri = capture.source.name, capture.source.uri
                hangs = capture.reader.hangs(time.monotonic())  # or only waits for a camera, within its time limit
                level, what = (logging.WARNING, "still hangs in") if hangs else (logging.INFO, "is still connecting to")
                log.log(level, "%s: the capture thread %s %s", name, what, uri, extra={"stream": name})
        for stream, health in self.conditions():
            stream.interrupt("shutdown")
            stream.status("stopped", **self._counts(health))

    def conditions(self) -> list[tuple[Stream, Health]]:
        """Every stream with its source's condition now."""
        now = time.monotonic()
        captures = [(capture, stream) for capture in tuple(self._captures) for stream in tuple(capture.streams)]
        return [(stream, capture.health(stream, now)) for capture, stream in captures]

    def reports(self) -> list[StreamReport]:
        """Every stream, for the reply to `status`."""
        now = time.monotonic()
        captures = {stream: capture for capture in self._captures for stream in capture.streams}
        told = [
            (stream, health, *self._condition(stream, health), captures[stream].work_ms(now))
            for stream, health in self.conditions()
        ]
        return [
            StreamReport(
                stream=stream.name, uri=stream.source.uri, source=state, detail=detail, epoch=stream.epoch,
                captured=health.captured, inferred=stream.inferred, term=stream.term, work_ms=work_ms,
            )
            for stream, health, state, detail, work_ms in told
        ]  # fmt: skip

    def _condition(self, stream: Stream, health: Health) -> tuple[SourceState, str]:
        """One that is held is online when it can go on at once."""
        if stream.held is not None and health.state == "online" and not stream.held.ready:
            return "connecting", "it waits for its first frame, or for a row of the engine"
        return self._load.condition(stream, health)

    def details(self) -> list[str]:
        """What is wrong with the sources, each in a sentence."""
        return [health.detail for health in self._health.values() if health.detail]
