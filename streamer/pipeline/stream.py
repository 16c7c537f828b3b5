"""One stream: its way from the ring to the engine's row, and from the row's logits to its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import probabilities
from streamer.clips.hook import NoClips
from streamer.config import Config, EventConfig
from streamer.errors import ConfigError
from streamer.labels.events import CloseReason, Decider, DeciderMemory, Event, suited
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window, topk
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.between import Coming
from streamer.pipeline.held import Held
from streamer.pipeline.intake import Intake
from streamer.pipeline.meters import Probe
from streamer.pipeline.pace import Slowness
from streamer.pipeline.ring import Ring
from streamer.pipeline.sampler import Sampler, SamplerMemory
from streamer.types import Image

STATE_EVERY_US = 1_000_000

EpochReason = Literal["gap", "reconnect", "clock", "reset", "model"]
"""Why the temporal state starts anew: time was lost, somebody asked for it, or another model took over."""


class StreamMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream knows beside the engine's state, in JSON: the same stream in another run goes on with it.

    frame_us, infer_us, ready, epoch, times: as in its messages, of the frame that was seen last, and of the last T
    """

    epoch: int
    ready: bool
    frame_us: int
    infer_us: int | None
    times: list[int]
    window_step: int
    told_label: str | None
    told_us: int | None
    sampler: SamplerMemory
    decider: DeciderMemory


class Stream:
    """What the pipeline keeps of one source, or of one view of it, behind the ring, in the engine's thread.

    intake    before the ring; several streams may have the same
    epoch     how often the temporal state has been reset
    inferred  frames that the network has seen; pictures between them do not count
    frame_us  time of the last of them, microseconds UTC
    term      that a fleet gave it; 0: none
    started   events that have begun
    gaps      how often time was lost, by reason; lost_us: how much, microseconds
    slowness  whether its source gives too few frames
    held      keeps its frames until it has taken the state of the same stream in another run; None: it has no need to
    """

    def __init__(
        self,
        name: str,
        intake: Intake,
        config: Config,
        build: MessageBuilder,
        send: Callable[[Message], None],
        epoch: int = 0,
        probe: Probe | None = None,
        clips: NoClips | None = None,
    ) -> None:
        self.intake = intake
        self.source = intake.source
        self.name = name
        self.epoch = epoch
        self.inferred = self.started = 0
        self.gaps: dict[EpochReason, int] = dict.fromkeys(get_args(EpochReason), 0)
        self.lost_us = self.gaps.copy()
        self.frame_us: int | None = None
        self.term = 0
        self._publish = config.publish
        self._max_gap = config.max_gap
        self._build = build
        self._send = send
        self._probe = probe or Probe()
        self._clips = clips or NoClips()
        self._passed_over = self._too_old = self._left = 0
        self._max_age_s = None if config.max_age_ms is None else config.max_age_ms / 1e3
        self._infer_us: int | None = None
        self._told_label: str | None = None
        self._told_us: int | None = None  # the frame time of the last `state`
        self.held: Held | None = None
        self._begin(config.events)

    def _begin(self, events: EventConfig) -> None:
        """Begin with the network that the source is taken for."""
        lens, spec = self.intake.lens, self.intake.lens.spec
        self._spec = spec
        self.ring: Ring | Held = lens.rings[self.name]
        if self.held is not None:
            self.hold()
        self.slowness = Slowness(self.source.uri, lens.pace, self._max_gap)
        self._sampler = Sampler(spec.rate_hz, self._max_gap)  # what the network is told
        self._events = suited(events, spec.events, spec.name)
        self._decider = Decider(spec.labels, self._events)
        self._coming = Coming()
        self._window_step = 1  # of the last frame inferred
        self._times: list[int] = []  # of the last T frames inferred
        self._ready = False

    @property
    def waiting(self) -> int:
        """Frames, and pictures between them, that the network has not seen yet."""
        return len(self.ring) + len(self._coming)

    @property
    def goes(self) -> bool:
        """Whether `take` has anything to do."""
        return self.waiting > 0 or self.held is not None

    @property
    def waits_since_s(self) -> float | None:
        """When the next frame that the network should see arrived (monotonic); None: it should be seen at once."""
        return None if self._coming else self.ring.waits_since_s

    def take(self, row: Image, now_s: float | None = None) -> tuple[bool, bool]:
        """Move the next frame that the network should see into the row: (there was one, it starts the state anew).

        Frames that arrived more than `max_age_ms` before `now_s`, of the monotonic clock, are dropped. A gap before the
        frame ends the open event, raises the epoch and is told. Where the source gave no frame that the network would
        have seen, pictures between its frames come first.
        """
        while not self._coming and (origin := self.ring.pop(row)):
            age_s = None if now_s is None or origin.arrived_s is None else now_s - origin.arrived_s
            if age_s is not None and self._max_age_s is not None and age_s > self._max_age_s:
                self._too_old += 1
                continue
            decision = self._sampler.offer(
                origin.time_us, origin.connection, origin.step, origin.timeline, origin.distance.patience_us
            )
            if not decision.take:
                self._passed_over += 1
                continue
            if decision.gap:
                gap = decision.gap
                self._begin_epoch("gap", gap.from_us, gap.to_us, gap.reason)
                self.slowness.hole(gap, own=self._coming.follows(origin))
            if age_s is not None:
                self._probe.taken(self.name, age_s)
            self._window_step = origin.step
            self._coming.add(row, origin, decision)
            self.slowness.look()
        if not self._coming:
            return False, False
        self.frame_us = self._coming.pop(row)
        first = not self._times
        self._times = [*self._times, self.frame_us][-self._spec.frames :]
        return True, first

    def decide(self, logits: NDArray[np.float32], ready: bool, infer_us: int | None) -> None:
        """Tell what the network said of the frame taken last, logits [K]: score, events, label in force.

        A model with a hop says nothing between two evaluations, and then there is nothing to tell.
        """
        now_us = self._times[-1]
        self.inferred += not self._coming  # then it was the frame itself, and nothing before it
        if ready:
            self.slowness.ready()
        self._infer_us = now_us if infer_us is None else infer_us
        if self._spec.hop > 1 and not ready and len(self._times) == self._spec.frames:
            return
        self._ready = ready
        shares = probabilities(logits, self._events.unknown)
        if ready:
            self._clips.saw(now_us, shares, self._spec)
        with self._probe.stage("decide"):
            events = self._decider.update(now_us, shares, ready)
        if ready and self._publish.scores:
            step_ms = 1e3 * self._window_step / self._spec.rate_hz
            window = Window(n=len(self._times), step_ms=step_ms, first_us=self._times[0], last_us=now_us)
            best = topk(self._spec.labels, shares, self._publish.topk)
            self._send(self._build.score(self.name, self._stamp(), best, window))
        self._tell(events)

    def interrupt(self, reason: CloseReason) -> None:
        """End the open event; without one nothing is told."""
        if self.frame_us is not None and (events := self._decider.close(reason, self.frame_us)):
            self._tell(events)

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that the network did not see, by reason.

        above_rate: the camera is faster than the model, as it should be. shed: the sample step was widened, since the
        engine is too slow. frozen: the camera repeats itself. ring_full, too_old: the engine is too slow. out_of_step:
        what came after a drop was not due. model: it waited when another model took over. corrupt: the source could not
        decode it.
        """
        return {
            **self.intake.left_out,
            **self.ring.dropped,
            "too_old": self._too_old,
            "out_of_step": self._passed_over,
            "model": self._left,
            "corrupt": self.source.corrupt,
        }

    @property
    def late(self) -> int:
        """Frames that the engine was too slow for."""
        return self._too_old + sum(self.ring.dropped.values())

    def repeat_state(self) -> None:
        """Tell the label in force once more: what a silent source's subscribers get every second."""
        self._send(self._build.state(self.name, self._stamp(), self._decider.state))

    def status(self, source: Any, detail: str = "", **counts: Any) -> None:
        """Tell how the stream is doing; `counts` are the others of `MessageBuilder.status`."""
        dropped = {reason: count for reason, count in self.dropped.items() if count}
        message = self._build.status(
            self.name, self._stamp(), source, detail, dropped=dropped, inferred=self.inferred, **counts
        )
        self._send(message)

    def change(self, events: EventConfig) -> None:
        """Obey other settings of events, as `Decider.change` does."""
        self._events = events
        if changed := self._decider.change(events):
            self._tell(changed)

    def reset(self) -> None:
        """Start the temporal state anew at the next frame; before the first one there is nothing to forget."""
        if self.frame_us is not None:
            self._begin_epoch("reset", self.frame_us, self.frame_us, "reset")

    def exchange(self, events: EventConfig) -> None:
        """Begin with another network, which the source is taken for by now. `interrupt` ended the event of the old one.

        Frames that wait were scaled and chosen for the one before, and are dropped.
        """
        self._left += self.ring.close() + bool(self._coming)
        dropped = self.ring.dropped
        self._begin(events)
        self.ring.dropped = dropped
        if self.frame_us is not None:
            self._begin_epoch("model", self.frame_us, self.frame_us, "model")
        self.repeat_state()

    def hold(self) -> None:
        """See no frame until `recall`."""
        self.held = self.ring = Held(self.intake.lens.rings[self.name], self.intake.realtime)

    @property
    def between(self) -> int:
        """Pictures between two frames that the network has not seen yet."""
        return len(self._coming)

    def memory(self) -> tuple[StreamMemory, tuple[int, Image] | None]:
        """What the same stream in another run needs to go on; with time and picture of the last frame.

        Raises ConfigError when nothing was seen since it began.
        """
        if not self._times or self.frame_us is None:
            raise ConfigError(f"{self.name} has no temporal state yet: its model has seen no frame")
        memory = StreamMemory(
            epoch=self.epoch, ready=self._ready, frame_us=self.frame_us, infer_us=self._infer_us, times=self._times,
            window_step=self._window_step, told_label=self._told_label, told_us=self._told_us,
            sampler=self._sampler.memory(), decider=self._decider.memory(),
        )  # fmt: skip
        return memory, self._coming.last

    def recall(self, memory: StreamMemory, last: tuple[int, Image] | None) -> None:
        """Go on where the same stream in another run has stopped: its open event is told again, from its start."""
        started = self._decider.recall(memory.decider)
        self._sampler.recall(memory.sampler)
        self._coming.follow(last)
        self.epoch, self._ready, self.frame_us = memory.epoch, memory.ready, memory.frame_us
        self._infer_us, self._times = memory.infer_us, memory.times[-self._spec.frames :]
        self._window_step, self._told_label, self._told_us = memory.window_step, memory.told_label, memory.told_us
        if self.held is not None:
            self.ring, self.held = self.held, None
            self.ring.go_on(memory.frame_us, self._let_go)
        if started:
            self._tell(started)
        self.repeat_state()

    def _let_go(self, ring: Ring) -> None:
        self.ring = ring

    def _begin_epoch(self, ends: CloseReason, from_us: int, to_us: int, reason: EpochReason) -> None:
        self.interrupt(ends)
        self.gaps[reason] += 1
        if reason == "clock":
            self._decider = Decider(self._spec.labels, self._events)  # what it knows is told by the other clock
        else:
            self.lost_us[reason] += max(0, to_us - from_us)
        self.epoch += 1
        self._ready = False
        self._times = []
        self._told_us = None
        self._send(self._build.gap(self.name, self._stamp(), from_us, to_us, reason))

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            self.started += event.type == "start"
            self._send(self._build.event(self.name, self._stamp(), event, self._clips.event(event)))
        state, told_us, now_us = self._decider.state, self._told_us, self.frame_us
        assert now_us is not None
        if state.label != self._told_label or told_us is None or now_us - told_us >= STATE_EVERY_US:
            self._told_label, self._told_us = state.label, now_us
            self._send(self._build.state(self.name, self._stamp(), state))

    def _stamp(self) -> Stamp:
        return Stamp(self.epoch, self._ready, self.frame_us, self._infer_us, self.term)


def advance(
    batcher: Batcher,
    streams: Sequence[Stream | None],
    now_us: Callable[[], int] | None = None,
    now_s: float | None = None,
) -> list[Stream]:
    """One step of the engine for all streams that have a frame; row i is stream i. Returns those streams.

    now_us: the clock of the messages' infer_us; None: the frame's own time, so that a recording gives the same bytes.
    now_s: the time by the monotonic clock, for the age of frames; None: they have none.
    """
    taken: list[tuple[int, Stream]] = []
    for index, stream in enumerate(streams):
        if stream is None:
            continue
        there, fresh = stream.take(batcher.row(index), now_s)
        if there:
            batcher.fill(index, fresh=fresh)
            taken.append((index, stream))
    if not taken:
        return []
    logits, ready = batcher.step()
    infer_us = now_us() if now_us else None
    for index, stream in taken:
        stream.decide(logits[index], bool(ready[index]), infer_us)
    return [stream for _, stream in taken]
