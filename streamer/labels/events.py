"""From probabilities to events: when an action starts, gets clearer, and ends. Pure: no clock, no thread, no socket.

Every rule counts time, never frames, so the same action gives the same events at any evaluation rate:

    smoothed  exponential average of the probabilities, time constant `smoothing_s`; all thresholds look at it
    start     a label stays at `enter` or above for `enter_s`
    end       it stays below `leave` for `leave_s` (score), another label, not of the background, is the highest of all
              and leads by `switch_lead` for its `enter_s` (switch), or `max_s` have passed (max_length). Score and
              switch do not end an event before `min_s`
    merge     an end is told only when nothing can undo it: after max(leave_s, merge_gap_s) below `leave`. Within
              `leave_s` a return to `leave` continues the event, after that only a return to `enter` does, and another
              label's lead stops the waiting. So each start has exactly one end; the price is that a `merge_gap_s` above
              `leave_s` delays the end's message (not its `t_end_us`)
    silence   after its end a label cannot start again for `refractory_s`, nor can the labels that it inhibits

`t_start_us` and `t_end_us` are when the condition began, not when it had held for long enough. Scores in events are raw
probabilities. One event is open at a time, and none starts before the one before it has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from pydantic import ValidationError

from engines.errors import did_you_mean
from streamer.config import EventConfig
from streamer.errors import ConfigError, StreamerError
from streamer.types import Probabilities

EventType = Literal["start", "update", "end"]
CloseReason = Literal["gap", "reset", "model", "shutdown", "moved"]
EndReason = Literal["score", "switch", "max_length", "gap", "reset", "shutdown", "set", "model", "moved"]
MOVED: Literal["moved"] = "moved"  # another machine goes on with the stream

PEAK_STEP = 0.05  # an update is told when the peak has risen by this much since the last message of its event ...
UPDATE_EVERY_S = 0.5  # ... and that message is at least this old

PRESETS: dict[str, dict[str, float]] = {
    "gesture": {},
    "activity": {  # walking, cooking: seconds to minutes long, and not over when interrupted for a moment
        "smoothing_s": 1.0,
        "enter": 0.5,
        "enter_s": 0.5,
        "leave": 0.3,
        "leave_s": 1.0,
        "min_s": 1.0,
        "merge_gap_s": 2.0,
        "max_s": 300.0,
        "refractory_s": 1.0,
    },
}

_NEVER = 2**62  # microseconds; since then: a condition that does not hold


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a label. In one stream starts and ends alternate, and updates lie between them.

    score     raw probability at the evaluation that decided it
    peak      highest raw probability of the event so far, counted from `t_start_us`
    t_end_us  and `reason`: None except in an `end`. Times are microseconds UTC
    """

    type: EventType
    label: str
    label_id: int
    score: float
    peak: float
    t_start_us: int
    t_end_us: int | None = None
    reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class State:
    """The label in force, its raw probability, and since when (microseconds UTC).

    Without one, label, label_id and score are None, and `since_us` is the end of the last one or the first evaluation;
    it is None before that.
    """

    label: str | None = None
    label_id: int | None = None
    score: float | None = None
    since_us: int | None = None


@dataclass(slots=True)
class _Open:
    """The event that has started and not ended."""

    label_id: int
    start_us: int
    peak: float
    told_peak: float
    told_us: int
    lead_since: NDArray[np.int64]  # [K] since when each other label leads, or _NEVER
    low_us: int = _NEVER  # since when the score is too low


Times = Annotated[int, Meta(ge=-_NEVER, le=_NEVER)]


class OpenMemory(msgspec.Struct, frozen=True):
    """What a Decider knows of the event that is open, in JSON."""

    label_id: Annotated[int, Meta(ge=0)]
    start_us: Times
    peak: float
    told_peak: float
    told_us: Times
    lead_since: list[Times]
    low_us: Times


class DeciderMemory(msgspec.Struct, frozen=True):
    """What a Decider knows, in JSON: for one of the same labels, which goes on with it. Lists are by label."""

    time_us: Times | None
    idle_since_us: Times | None
    raw: list[float]
    smoothed: list[float]
    since: list[Times]
    peak: list[float]
    silent_until: list[Times]
    open: OpenMemory | None


class Decider:
    """Turns the probabilities of ONE stream into events.

    `labels` are the model's, in the order of its outputs. Raises ConfigError for a label name that the model does not
    have, naming the nearest, and for thresholds that contradict each other.
    """

    def __init__(self, labels: Sequence[str], config: EventConfig) -> None:
        self._labels = tuple(labels)
        self._obey(config)
        self._idle_since_us: int | None = None
        self._forget()

    def _obey(self, config: EventConfig) -> None:
        self._config = config = resolved(config)
        self._ids(config.labels, "events.labels")
        self._rules = [_rule(config, label) for label in self._labels]
        self._enter = np.array([rule.enter for rule in self._rules])  # [K]
        self._enter_s = np.array([rule.enter_s for rule in self._rules])  # [K]
        self._eligible = np.ones(len(self._labels), dtype=bool)  # [K]
        self._eligible[self._ids(config.background, "events.background")] = False
        self._silences = {label_id: [label_id] for label_id in range(len(self._labels))}
        for label_id, silenced in zip(
            self._ids(config.inhibit, "events.inhibit"), config.inhibit.values(), strict=True
        ):
            self._silences[label_id] += self._ids(silenced, f"events.inhibit.{self._labels[label_id]}")

    def _forget(self) -> None:
        count = len(self._labels)
        self._time_us: int | None = None
        self._open: _Open | None = None
        self._raw: NDArray[np.float64] = np.zeros(count)
        self._smoothed: NDArray[np.float64] = np.zeros(count)
        self._since: NDArray[np.int64] = np.full(count, _NEVER)  # since when each label is at `enter` or above
        self._peak: NDArray[np.float64] = np.zeros(count)  # highest raw probability since then
        self._silent_until: NDArray[np.int64] = np.full(count, -_NEVER)

    def update(self, time_us: int, probabilities: Probabilities, ready: bool) -> list[Event]:
        """Take one evaluation, probabilities [K] at `time_us` (microseconds UTC); return what it decides, oldest first.

        While not `ready` nothing is decided, and an event that is still open ends with reason `reset`. Raises
        StreamerError for a row of the wrong length or with values that are not finite: a network that gave a NaN has it
        in its state and will give more, so to ignore it would be silence without end. Raises ValueError when time does
        not advance.
        """
        if not ready:
            return self.close("reset", time_us)
        raw = self._checked(time_us, probabilities)
        if self._idle_since_us is None:
            self._idle_since_us = time_us
        self._smoothed = self._smoothed + self._gain(time_us) * (raw - self._smoothed)
        self._time_us, self._raw = time_us, raw
        met = self._eligible & (self._smoothed >= self._enter)
        self._since = _held(self._since, met, time_us)
        self._peak = np.where(met, np.maximum(self._peak, raw), 0.0)
        followed = self._follow(self._open, time_us) if self._open else []
        return followed if self._open else [*followed, *self._begin(time_us)]

    def close(self, reason: CloseReason, time_us: int) -> list[Event]:
        """End the open event, if there is one, and forget the past; the next update may have any time.

        time_us: when the stream was last known to go on, microseconds UTC (for a gap, its last frame).
        """
        events = [self._end(self._open, reason, time_us)] if self._open else []
        self._forget()
        return events

    def change(self, config: EventConfig) -> list[Event]:
        """Obey other settings, for which a Decider can be made, from the next update on.

        An open event goes on and ends by them; if its label is of the background now, it ends here, with reason `set`.
        """
        self._obey(config)
        if self._open is None or self._time_us is None or self._eligible[self._open.label_id]:
            return []
        return [self._end(self._open, "set", self._time_us)]

    def memory(self) -> DeciderMemory:
        """What this Decider knows."""
        arrays = self._raw, self._smoothed, self._since, self._peak, self._silent_until
        raw, smoothed, since, peak, silent_until = (array.tolist() for array in arrays)
        event, opened = self._open, None
        if event:
            told, leads = (event.peak, event.told_peak, event.told_us), event.lead_since.tolist()
            opened = OpenMemory(event.label_id, event.start_us, *told, leads, event.low_us)
        return DeciderMemory(self._time_us, self._idle_since_us, raw, smoothed, since, peak, silent_until, opened)

    def recall(self, memory: DeciderMemory) -> list[Event]:
        """Go on with what another Decider knew; the start of its open event. ConfigError if it had other labels."""
        event, count = memory.open, len(self._labels)
        lists: list[list[Any]] = [memory.raw, memory.smoothed, memory.since, memory.peak, memory.silent_until]
        lists += [event.lead_since] if event else []
        if {len(one) for one in lists} != {count} or (event and event.label_id >= count):
            raise ConfigError(f"this state is of a model with other labels; this one has {count}")
        self._time_us, self._idle_since_us = memory.time_us, memory.idle_since_us
        self._raw, self._smoothed, self._peak = map(np.array, (memory.raw, memory.smoothed, memory.peak))
        self._since, self._silent_until, self._open = np.array(memory.since), np.array(memory.silent_until), None
        if event:
            told, leads = (event.peak, event.told_peak, event.told_us), np.array(event.lead_since)
            self._open = _Open(event.label_id, event.start_us, *told, leads, event.low_us)
        return [self._event(self._open, "start")] if self._open else []

    @property
    def state(self) -> State:
        """The label in force after the last update."""
        if self._open is None:
            return State(since_us=self._idle_since_us)
        label_id = self._open.label_id
        return State(self._labels[label_id], label_id, float(self._raw[label_id]), self._open.start_us)

    def _ids(self, names: Iterable[str], where: str) -> list[int]:
        for name in names:
            if name not in self._labels:
                hint = did_you_mean(name, self._labels, f"it has {', '.join(self._labels)}")
                raise ConfigError(f"{where}: the model has no label {name!r}; {hint}")
        return [self._labels.index(name) for name in names]

    def _checked(self, time_us: int, probabilities: Probabilities) -> NDArray[np.float64]:
        raw = np.asarray(probabilities, dtype=np.float64)
        if raw.shape != (len(self._labels),):
            raise StreamerError(
                f"the model gave probabilities of shape {raw.shape} for {len(self._labels)} labels; "
                "its file and its list of labels do not belong together"
            )
        if not np.isfinite(raw).all():
            raise StreamerError(
                f"the model gave probabilities that are not finite, at {time_us} us; "
                "try `engine.precision: fp32`, and if that does not help, build the model again"
            )
        if self._time_us is not None and time_us <= self._time_us:
            raise ValueError(
                f"time must advance: {time_us} us came after {self._time_us} us; close() before a jump back"
            )
        return raw

    def _gain(self, time_us: int) -> float:
        """How far the average moves to the new value; the first one after a reset is taken whole."""
        if self._time_us is None or not self._config.smoothing_s:
            return 1.0
        return -math.expm1(-_seconds(time_us - self._time_us) / self._config.smoothing_s)

    def _begin(self, time_us: int) -> list[Event]:
        """Start the best of the labels whose condition has held for long enough."""
        since = np.maximum(self._since, self._silent_until)
        due = np.flatnonzero((time_us - since) / 1e6 >= self._enter_s)
        if not due.size:
            return []
        label_id = int(due[np.argmax(self._smoothed[due])])
        peak = float(self._peak[label_id])
        nobody = np.full(len(self._labels), _NEVER)
        self._open = _Open(label_id, int(since[label_id]), peak, peak, time_us, nobody)
        return [self._event(self._open, "start")]

    def _follow(self, event: _Open, time_us: int) -> list[Event]:
        """Look after the open event: its peak, and whether it ends."""
        rule, score = self._rules[event.label_id], self._smoothed[event.label_id]
        floor = rule.leave if _seconds(time_us - event.low_us) < rule.leave_s else rule.enter
        event.low_us = min(event.low_us, time_us) if score < floor else _NEVER
        highest = self._smoothed == self._smoothed.max()
        leads = self._eligible & highest & (self._smoothed - score >= rule.switch_lead)
        leads[event.label_id] = False
        event.lead_since = _held(event.lead_since, leads, time_us)
        event.peak = max(event.peak, float(self._raw[event.label_id]))

        ending = self._ending(event, time_us)
        if ending:
            return [self._end(event, *ending)]
        if event.peak - event.told_peak >= PEAK_STEP and _seconds(time_us - event.told_us) >= UPDATE_EVERY_S:
            event.told_peak, event.told_us = event.peak, time_us
            return [self._event(event, "update")]
        return []

    def _ending(self, event: _Open, time_us: int) -> tuple[EndReason, int] | None:
        """Why the event ends now, and since when; None while it goes on."""
        rule = self._rules[event.label_id]
        earliest_us, latest_us = (event.start_us + round(limit_s * 1e6) for limit_s in (rule.min_s, rule.max_s))
        if time_us >= earliest_us:
            rivals_us = event.lead_since[(time_us - event.lead_since) / 1e6 >= self._enter_s]
            patience_s = rule.leave_s if rivals_us.size else max(rule.leave_s, rule.merge_gap_s)
            if _seconds(time_us - event.low_us) >= patience_s:
                return "score", min(max(event.low_us, earliest_us), latest_us)
            if rivals_us.size:
                return "switch", min(max(int(rivals_us.min()), earliest_us), latest_us)
        return ("max_length", latest_us) if time_us >= latest_us else None

    def _end(self, event: _Open, reason: EndReason, end_us: int) -> Event:
        end_us = max(end_us, event.start_us)
        silenced = self._silences[event.label_id]
        until_us = end_us + round(self._rules[event.label_id].refractory_s * 1e6)
        self._silent_until = np.maximum(self._silent_until, end_us)  # nothing starts before this end
        self._silent_until[silenced] = np.maximum(self._silent_until[silenced], until_us)
        self._open, self._idle_since_us = None, end_us
        return self._event(event, "end", end_us, reason)

    def _event(
        self, event: _Open, kind: EventType, end_us: int | None = None, reason: EndReason | None = None
    ) -> Event:
        label_id, score = event.label_id, float(self._raw[event.label_id])
        return Event(kind, self._labels[label_id], label_id, score, event.peak, event.start_us, end_us, reason)


def suited(config: EventConfig, told: Mapping[str, Any], model: str) -> EventConfig:
    """The configuration with the values that a model's sidecar tells, where the user has set none.

    A threshold that the user sets for all labels, or by a preset, counts more than the model's, also than its one for a
    single label. Raises ConfigError for a sidecar that tells what is no value.
    """
    mine = config.model_dump(exclude_unset=True)
    overruled = mine.keys() | (PRESETS["activity"].keys() if "preset" in mine else set())
    try:
        theirs = EventConfig.model_validate(told).model_dump(exclude_unset=True)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(
            f"the sidecar of {model} tells events.{'.'.join(map(str, fault['loc']))}, which cannot be used: "
            f"{fault['msg']}; mend it, or take another model"
        ) from error
    rules: dict[str, dict[str, float]] = {}
    for labels, without in ((theirs.pop("labels", {}), overruled), (mine.pop("labels", {}), set())):
        for label, rule in labels.items():
            if kept := {key: rule[key] for key in rule.keys() - without}:
                rules[label] = {**rules.get(label, {}), **kept}
    both = {**{key: theirs[key] for key in theirs.keys() - overruled}, **mine}
    return EventConfig.model_validate({**both, "labels": rules} if rules else both)


def resolved(config: EventConfig) -> EventConfig:
    """The configuration with its preset applied: a preset changes the defaults of the fields the user did not set."""
    preset = PRESETS[config.preset]
    return config.model_copy(update={key: preset[key] for key in preset.keys() - config.model_fields_set})


def _rule(config: EventConfig, label: str) -> EventConfig:
    """The configuration as it holds for one label."""
    own = config.labels[label].model_dump(exclude_none=True) if label in config.labels else {}
    rule = config.model_copy(update=own)
    if rule.leave > rule.enter:
        raise ConfigError(
            f"events, label {label!r}: `leave` {rule.leave} is above `enter` {rule.enter}, "
            "so an event would end as it starts; lower `leave` or raise `enter`"
        )
    if rule.min_s > rule.max_s:
        raise ConfigError(f"events, label {label!r}: `min_s` {rule.min_s} is above `max_s` {rule.max_s}; lower it")
    return rule


def _held(since: NDArray[np.int64], met: NDArray[np.bool_], time_us: int) -> NDArray[np.int64]:
    """Since when each condition has held without a break, given which of them hold now."""
    return np.where(met, np.minimum(since, time_us), _NEVER)


def _seconds(microseconds: int) -> float:
    return microseconds / 1e6
