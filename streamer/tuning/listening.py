"""What a model says of a recording, heard once, and the events that it makes with any thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineState, probabilities
from streamer.config import Config, EventConfig, SourceConfig
from streamer.errors import ConfigError
from streamer.labels.events import Decider
from streamer.labels.messages import GapMessage, Message, ScoreMessage
from streamer.pipeline.replay import replay
from streamer.sources import open_source
from streamer.tuning.matching import Detection, Matching, Segment, match_events
from streamer.tuning.truth import Recording

_BEYOND_S = 0.5  # how far a segment may reach beyond the last frame: players and containers round


@dataclass(frozen=True)
class Heard:
    """A recording and what the model says of it.

    times_us [N]   of its answers, microseconds since the first frame
    logits [N, K]  float32
    gaps           the answers before which time was lost
    length_s       of what is judged, seconds
    """

    recording: Recording
    times_us: NDArray[np.int64]
    logits: NDArray[np.float32]
    gaps: frozenset[int]
    length_s: float

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.recording.segments


class _Overheard(Engine):
    """An engine whose last logits [K] are kept."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.spec, engine.backend, engine.device)
        self._engine = engine
        self.logits = np.empty(0, np.float32)

    def new_state(self, rows: int) -> EngineState:
        return self._engine.new_state(rows)

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        logits, ready = self._engine.step(frames, active, fresh, state)
        self.logits = logits[0].copy()
        return logits, ready

    def close(self) -> None:
        self._engine.close()


def listen(recording: Recording, engine: Engine, config: Config) -> Heard:
    """Run a recording through the pipeline, as `streamer replay` does.

    Raises SourceError for a file that cannot be read, ConfigError for a segment that reaches beyond its end.
    """
    overheard, times_us, logits, gaps = _Overheard(engine), [], [], set()

    def keep(message: Message) -> None:
        if isinstance(message, ScoreMessage):
            times_us.append(message.ts.frame_us or 0)
            logits.append(overheard.logits)
        elif isinstance(message, GapMessage):
            gaps.add(len(times_us))

    source = open_source(SourceConfig(uri=f"file:{recording.path.absolute()}", name="recording", pace="fast"))
    publish = config.publish.model_copy(update={"scores": True, "topk": 1})
    (stream,) = replay(source, overheard, config.model_copy(update={"publish": publish}), keep)
    end_s = (stream.frame_us or 0) / 1e6 + 1 / engine.spec.rate_hz
    for segment in recording.segments:
        if recording.judged is None and math.isfinite(segment.end_s) and segment.end_s > end_s + _BEYOND_S:
            raise ConfigError(
                f"{recording.where}: a segment ends at {segment.end_s:g} s, but {recording.path} is {end_s:.1f} s long"
            )
    begin_s, until_s = recording.judged or (0.0, end_s)
    segments = tuple(replace(segment, end_s=min(segment.end_s, end_s)) for segment in recording.segments)
    return Heard(
        replace(recording, segments=segments),
        np.array(times_us, np.int64),
        np.array(logits, np.float32).reshape(len(logits), len(engine.spec.labels)),
        frozenset(gaps),
        max(0.0, min(until_s, end_s) - begin_s),
    )


def matching(heard: Heard, labels: Sequence[str], config: EventConfig) -> Matching:
    """The events that a recording makes with a configuration beside what happens in it.

    Background labels make none, and none is expected of them.
    """
    begin_s, until_s = heard.recording.judged or (0.0, math.inf)
    events = [event for event in _events(heard, labels, config) if begin_s <= event.start_s <= until_s]
    return match_events((one for one in heard.segments if one.label not in config.background), events)


def _events(heard: Heard, labels: Sequence[str], config: EventConfig) -> list[Detection]:
    decider, found = Decider(labels, config), []
    shares = probabilities(heard.logits, config.unknown)
    for number, time_us in enumerate(heard.times_us.tolist()):
        if number in heard.gaps:
            decider.close("gap", time_us)
        events = decider.update(time_us, shares[number], ready=True)
        found += [Detection(one.label, one.t_start_us / 1e6, time_us / 1e6) for one in events if one.type == "start"]
    return found
