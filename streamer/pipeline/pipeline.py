"""The whole program, wired: a capture thread for each source, one thread that runs the engine and publishes.

Threads begin here and in capture.py only. One that fails stops the pipeline with its error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol

from engines import Engine, EngineSpec, EngineState
from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError
from streamer.labels.commands import ClipReport, Report
from streamer.labels.control import Control
from streamer.labels.events import resolved, suited
from streamer.labels.messages import Message, MessageBuilder, stream_prefix
from streamer.labels.publisher import Publisher, wall_us
from streamer.pipeline.announcer import Announcer
from streamer.pipeline.exchange import Loaded, Loader, events_for
from streamer.pipeline.intake import Intake
from streamer.pipeline.meters import Meter, Probe
from streamer.pipeline.moving import Moves
from streamer.pipeline.rows import Rows
from streamer.pipeline.shedding import Load
from streamer.pipeline.stream import Stream
from streamer.pipeline.summary import Summary
from streamer.pipeline.watch import Watch, log
from streamer.region import Corners
from streamer.settings import changed
from streamer.sources import Source, distinguish, open_source
from streamer.sources.reader import Health
from streamer.types import Image

if TYPE_CHECKING:
    from streamer.clips.room import Clips

IDLE_S = 0.05  # how long the engine's thread sleeps when nothing comes
WATCH_S = 0.2  # how often it looks at the sources
MAX_STREAMS = 256  # that `add` adds to; a program that adds without end shall not take the machine down


_ENDING = "the run is ending; no other model can take over any more"


class Manager(Protocol):
    """Who looks after the process from outside, such as `ServiceManager` for systemd."""

    def alive(self) -> None:
        """Called in every turn of the loop."""

    def stopping(self) -> None:
        """Called once, when the run ends."""


class Pipeline:
    """Sources -> engine -> label stream, until the sources end, `stop` is set or `config.duration_s` is over.

    engine     that runs now; one that takes over is closed with the run, the first one by whoever made it
    streams    those that run now; `add` and `remove` change them
    draining   the run ends as soon as the frames that were taken have been seen
    listeners  called in the engine's thread with every message, after it was published
    control    served between two steps of the engine
    probe      is told of the work as it goes on
    manager    is told that the loop is alive
    moves      gives streams to other runs, and takes theirs
    keeper     keeps clips of what happens; closed at the end
    turned     when the loop of `run` last began a turn, by the monotonic clock; None before the first
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        sources: Sequence[Source],
        publisher: Publisher | None = None,
        listeners: Sequence[Callable[[Message], None]] = (),
        control: Control | None = None,
        probe: Probe | None = None,
        manager: Manager | None = None,
        keeper: Clips | None = None,
    ) -> None:
        self._config = self._begun = config
        self._set: dict[str, Any] = {}
        self.engine = engine
        self._loader = Loader()
        self._owns_engine = False
        self._control = control
        self._publisher = publisher
        self._probe = probe or Probe()
        self._announcer = Announcer(publisher, listeners, self._probe)
        self._manager = manager
        self.keeper = keeper
        self.turned: float | None = None
        self._wake = threading.Event()
        spec = engine.spec
        self._build = (
            publisher.build if publisher else MessageBuilder(spec.version, spec.mode, now_us=wall_us, node=config.node)
        )
        self._load = Load(1 / spec.rate_hz)
        self._watch = Watch(self._load, self._step_ms, self._wake.set, self._forget)
        self.streams = self._watch.streams
        self.streams += [stream for source in sources for stream in self._streams(source)]
        self.draining = False
        self._rows = Rows(engine, self.streams, self._in_thread, self._probe, config.rows)
        self.moves = Moves(self._watch, lambda: self._rows, lambda: self.engine.spec, self._advance)
        self._age_ms = Meter()

    def run(self, stop: threading.Event) -> Summary:
        """Run in the calling thread. Raises the error of a thread that failed: SourceError, EngineError, ConfigError.

        Whatever ends it, open events end with reason `shutdown`, every stream's last status is `stopped`, and no thread
        stays behind but those that hang in a driver.
        """
        started = time.monotonic()
        ends = started + (self._config.duration_s or float("inf"))
        watch_due = started
        self._watch.begin()
        try:
            while not stop.is_set() and (now := time.monotonic()) < ends:
                self.turned = now
                if self._manager:
                    self._manager.alive()
                self._wake.clear()
                if not self._advance():
                    if self.draining:
                        break
                    self._wake.wait(min(IDLE_S, ends - now))
                if self._publisher:
                    self._publisher.poll()
                if self._control:
                    self._control.poll(self)
                if now >= watch_due and not self.draining:  # then the sources are silent because they were told to be
                    watch_due = now + WATCH_S
                    self._load.look(now, self.streams, self._rows.waiting(self.streams))
                    if self._watch.look(now) and not self._config.node:
                        break
                self._arrange()  # before the next step: a stream that has ended says nothing more
        finally:
            self._shut_down()
        return self.summary()

    def _advance(self) -> bool:
        """One step of the engine, if any stream has a frame."""
        while wait_s := self._rows.wait_s(began := time.monotonic(), self._config.batch_wait_ms / 1e3):
            self._wake.wait(wait_s)
            self._wake.clear()
        advanced = self._rows.step(wall_us, began)
        if advanced:
            self._probe.stepped(len(advanced))
        for stream in advanced:
            if stream.frame_us is not None and stream.intake.realtime:
                age_us = wall_us() - stream.frame_us
                self._age_ms.add(age_us / 1e3)
                self._probe.published(stream.name, age_us / 1e6)
        if advanced:
            self._load.turned(time.monotonic() - began)
        return bool(advanced)

    def _arrange(self) -> None:
        """Bring the engine's rows in line with the streams."""
        if error := self._rows.arrange(self.streams):
            for stream in self._rows.waiting(self.streams):
                self._watch.fail(stream, f"the engine has no room for it: {error}")

    def _shut_down(self) -> None:
        if self._manager:
            self._manager.stopping()
        self._watch.close()
        if self._publisher:
            self._publisher.close()
        self._rows.close()
        if self.keeper:
            self.keeper.close()
        self._loader.close()
        if self._owns_engine:
            self.engine.close()

    def _streams(self, source: Source) -> list[Stream]:
        """Those of one source: one, or one for each of its views."""
        intake = Intake(source, self.engine.spec, self._config, self._wake.set, self._probe)
        return [self._stream(name, intake) for name in intake.streams]

    def _stream(self, name: str, intake: Intake) -> Stream:
        epoch = self._watch.epochs.pop(name, -1) + 1
        clips = self.keeper.of(name, intake.source) if self.keeper else None
        stream = Stream(name, intake, self._config, self._build, self._announcer.send, epoch, self._probe, clips)
        self._load.widen(stream)
        return stream

    def _forget(self, name: str) -> None:
        """A stream is no more."""
        self._announcer.forget(name)
        if self.keeper:
            self.keeper.forget(name)
        self._probe.removed(name)

    def _in_thread(self, make: Callable[[], EngineState]) -> Future[EngineState]:
        """Make a state of the engine in a thread of its own."""
        made: Future[EngineState] = Future()

        def run() -> None:
            try:
                made.set_result(make())
            except BaseException as error:  # whoever asks for the result gets it
                made.set_exception(error)
            self._wake.set()

        threading.Thread(target=run, name="new state", daemon=True).start()
        return made

    def report(self) -> Report:
        """The run and its streams, for `status`."""
        spec = self.engine.spec
        return Report(
            model=spec.version,
            session=self._build.session,
            labels=self._publisher.address if self._publisher else None,
            draining=self.draining,
            streams=self._watch.reports(),
            set=self._set,
            events=resolved(suited(self._config.events, spec.events, spec.name)).model_dump(mode="json"),
            knows=list(spec.labels),
            loading=self._loader.model,
        )

    def snapshot(self) -> list[Message]:
        """The last state and status of every stream."""
        return self._announcer.snapshot()

    def set(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings of events; returns all that were changed since the run began. ConfigError changes nothing."""
        config, changes = changed(self._begun, self._set, values)
        events = events_for(config, self.engine.spec)  # or ConfigError, before any stream has changed
        self._config, self._set = config, changes
        for stream in self.streams:
            stream.change(events)
        log.info("set %s", " ".join(f"{path}={value}" for path, value in values.items()))
        return changes

    def load(self, model: str) -> Loaded:
        """A model for `swap`. Any thread may ask, since it takes its time. EngineError or ConfigError if none."""
        if self.draining:
            raise ConfigError(_ENDING)
        return self._loader.load(self._config, model, len(self.streams), self.engine, self._check)

    def swap(self, loaded: Loaded) -> str:
        """Let a model take over between two steps, and close the one before; returns its version.

        Open events end and every stream that saw a frame starts anew, with reason `model`. ConfigError changes nothing.
        """
        engine, before = loaded.engine, self.engine
        try:
            if self.draining:
                raise ConfigError(_ENDING)
            self._check(engine.spec)  # the settings may be others by now
        except ConfigError:
            engine.close()
            raise
        for stream in self.streams:
            stream.interrupt("model")
        self.engine, self._owns_engine = engine, True
        self._build.become(engine.spec.version, engine.spec.mode)
        self._load.begin(1 / engine.spec.rate_hz)
        for intake in {stream.intake for stream in self.streams}:
            intake.see_for(engine.spec)
        for stream in self.streams:
            stream.exchange(self._config.events)
            self._load.widen(stream)
        self._rows.exchange(engine, loaded.state, self.streams)
        self._watch.repeat()
        log.info("model %s took the place of %s: %s", engine.spec.version, before.spec.version, engine.device)
        return engine.spec.version

    def _check(self, spec: EngineSpec) -> None:
        """ConfigError if this run cannot obey its settings with a model."""
        events_for(self._config, spec)
        if self.keeper:
            self.keeper.check(spec)

    def reset(self, name: str) -> int:
        """Start a stream's temporal state anew; returns its epoch. ConfigError if there is no such stream."""
        stream = self._watch.find(name)
        stream.reset()
        return stream.epoch

    def open(self, config: SourceConfig) -> Source:
        """A source for `add`. Any thread may ask, since a file system may hang. SourceError if there is none."""
        return open_source(config, (), self._config.capture)

    def add(
        self, config: SourceConfig, source: Source | None = None, term: int = 0, *, held: bool = False
    ) -> list[str]:
        """Begin the streams of one more source; returns their names. ConfigError or SourceError if that cannot be.

        They are captured at once, and seen by the engine when they have rows. source: what `open` made of the
        configuration. term: that a fleet gave them. held: they see no frame until they take a state.
        """
        if self.draining:
            raise ConfigError("the run is ending; no stream can be added any more")
        if len(self.streams) + config.rows + (leaving := self._watch.leaving) > MAX_STREAMS:
            hang = f", and {leaving} threads of streams that were removed still hang" if leaving else ""
            raise ConfigError(f"there are {len(self.streams)} streams already{hang}; remove one first")
        source = source or self.open(config)
        distinguish(source, [stream.name for stream in self.streams])
        for name in source.streams:
            stream_prefix(name)  # a name that is none is the request's error, not the run's
        streams = self._streams(source)
        for stream in streams:
            stream.term = term
            if held:
                stream.hold()
        self._watch.add(streams)
        return [stream.name for stream in streams]

    def remove(self, name: str, term: int | None = None) -> None:
        """End a stream. ConfigError if there is no such stream, or it has a later term."""
        stream = self._watch.find(name)
        if term is not None and stream.term > term:
            raise ConfigError(f"{name} has term {stream.term} by now, which is later than {term}; it goes on")
        self._watch.end(stream)

    def clips(self) -> Future[list[ClipReport]]:
        """The clips of the run's folder. ConfigError if none are kept."""
        return self._kept().reports()

    def answer(self, clip: str, label: str) -> Future[dict[str, Any]]:
        """Keep what somebody says that a clip shows. ConfigError if none are kept, or the folder does not answer."""
        return self._kept().answer(clip, label)

    def _kept(self) -> Clips:
        if not self.keeper:
            raise ConfigError("this run keeps no clips; start it with a folder for them, `--set clips.folder=clips`")
        return self.keeper

    def drain(self) -> None:
        """Take no more frames, and end the run when those that were taken have been seen."""
        self.draining = True
        self._watch.stop()

    @property
    def stage(self) -> int:
        """How far load is shed; 0: not at all."""
        return self._load.stage

    def conditions(self) -> list[tuple[Stream, Health]]:
        """Every stream with its source's condition now; any thread may ask."""
        return self._watch.conditions()

    def details(self) -> list[str]:
        """What is wrong with the sources, each in a sentence."""
        return self._watch.details()

    def picture(self, name: str) -> Image | None:
        """The newest frame of a stream that the network took, for who asks often; None if there is none."""
        return next((stream.intake.look() for stream in self.streams if stream.name == name), None)

    def corners(self, name: str) -> Corners | None:
        """Of the part of its source's pictures that a stream sees; None: all."""
        return next((stream.intake.streams.get(name) for stream in self.streams if stream.name == name), None)

    def _step_ms(self, percent: float) -> float | None:
        """A percentile of how long steps of the engine took."""
        return self._rows.batcher.step_ms.percentile(percent)

    def summary(self) -> Summary:
        """What the run did so far."""
        totals = deepcopy(self._watch.past)
        for stream, health in self.conditions():
            totals.add(stream, health)
        return totals.summary(self._rows.batcher.step_ms, self._age_ms)
