"""The label stream's messages, version 1: two frames, `[topic][payload]`. Pure: no socket, and no clock of its own.

The topic is `act/1/<stream>/<kind>/` in UTF-8; its last slash keeps the prefix `act/1/cam1/` from matching `cam10`.
The payload is one JSON object, one of the five types below, told apart by `kind`. `labels.schema.json` beside this file
is their JSON Schema, written by `schema()`. Version 1 may gain fields: a reader ignores those that it does not know.
"""

from __future__ import annotations

import inspect
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import msgspec
import numpy as np

from streamer.errors import ConfigError, StreamerError
from streamer.labels.events import EndReason, Event, EventType, State
from streamer.types import Probabilities

Kind = Literal["event", "state", "score", "status", "gap"]
Mode = Literal["stream", "window"]
SourceState = Literal["online", "degraded", "connecting", "stalled", "offline", "ended", "stopped"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROOT = "act/1/"


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds UTC: when the frame was captured, when the model had seen it, when the message was published.

    frame_us and infer_us are null in messages before the stream's first frame or inference.
    """

    frame_us: int | None
    infer_us: int | None
    pub_us: int


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The frames that the model looked at: how many, their nominal distance, the times of the first and the last."""

    n: int
    step_ms: float
    first_us: int
    last_us: int


class Common(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message carries.

    session  uuid of this run of the publisher
    epoch    +1 at every reset of this stream's temporal state
    seq      per stream and kind, from 0, without holes at the publisher; a hole at the reader is a message it lost
    model    name@hash
    ready    the model has seen as many frames as it needs
    age_ms   pub_us - frame_us
    """

    v: Literal[1] = 1
    stream: str = ""  # an addition to the topic, for messages that are kept without it
    session: str
    epoch: int
    seq: int
    model: str
    mode: Mode
    ready: bool
    ts: Times
    age_ms: float | None

    @property
    def kind(self) -> Kind:
        """The message's kind, as in its topic."""
        return cast("Kind", self.__struct_config__.tag)


class EventMessage(Common, frozen=True, kw_only=True, tag="event"):
    """An action starts, changes its score for the better, ends. Every start is followed by exactly one end.

    `id` is the same from start to end and unique within the session; t_end_us and reason are null before the end.
    """

    id: str
    type: EventType
    label: str
    label_id: int
    score: float
    peak: float
    t_start_us: int
    t_end_us: int | None
    reason: EndReason | None


class StateMessage(Common, frozen=True, kw_only=True, tag="state"):
    """The label in force, or null: at each change, every second, and again for a new subscription."""

    label: str | None
    label_id: int | None
    score: float | None
    since_us: int | None


class ScoreMessage(Common, frozen=True, kw_only=True, tag="score"):
    """One evaluation: the highest probabilities, raw, best first."""

    topk: list[tuple[str, float]]
    window: Window


class StatusMessage(Common, frozen=True, kw_only=True, tag="status"):
    """How the stream is doing: at each change, every 5 seconds, and again for a new subscription.

    source `degraded` is online, but the engine is too slow, and takes fewer frames of each stream than the model was
    trained at. stage: how far, whatever the source is; 0 is not at all. The detail says what that means. It also says
    of an online source that it gives fewer frames than the model takes, and what that means for the labels.
    inferred counts frames; pictures between the frames of a slow source are seen by the model, too, and not counted.
    Counts are since the stream began: frames captured, frames dropped by reason, inferences, reconnects.
    fps_in and the percentiles of a model step in milliseconds are null until they have been measured.
    """

    source: SourceState
    detail: str
    captured: int
    dropped: dict[str, int]
    inferred: int
    reconnects: int
    fps_in: float | None
    step_ms_p50: float | None
    step_ms_p99: float | None
    stage: int = 0


class GapMessage(Common, frozen=True, kw_only=True, tag="gap"):
    """The temporal state started anew because time was lost: between from_us and to_us nothing was seen.

    reason is gap, reconnect, reset, or clock: the clock of the machine or of the camera was set, from_us is by the old
    time and to_us by the new one, which may be before it. Nothing was lost then.
    """

    from_us: int
    to_us: int
    reason: str


Message = EventMessage | StateMessage | ScoreMessage | StatusMessage | GapMessage
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def topic(stream: str, kind: Kind) -> str:
    """The topic of a stream's messages of one kind. Raises ConfigError for a name that cannot stand in a topic."""
    return f"{stream_prefix(stream)}{kind}/"


def stream_prefix(stream: str) -> str:
    """What all topics of a stream begin with. Raises ConfigError for a name that cannot stand in a topic."""
    if not re.fullmatch(r"[a-z0-9_-]{1,64}", stream):
        raise ConfigError(f"{stream!r} cannot name a stream: use 1 to 64 of a-z, 0-9, _ and -")
    return f"{ROOT}{stream}/"


def split_topic(topic: bytes) -> tuple[str, str]:
    """The stream and the kind of a topic; the kind may be one that a later version added. Raises StreamerError."""
    match = re.fullmatch(rb"act/1/([a-z0-9_-]{1,64})/([a-z0-9_-]{1,64})/", topic)
    if match is None:
        raise StreamerError(
            f"{topic[:200]!r} is not a topic of labels, act/1/<stream>/<kind>/; is this the right port?"
        )
    return match[1].decode(), match[2].decode()


def encode(message: Message) -> bytes:
    """The payload: one JSON object in one line."""
    return msgspec.json.encode(message)


def decode(topic: bytes, payload: bytes) -> Message:
    """The message of two frames. Unknown fields are ignored. Raises StreamerError naming the topic and the field."""
    stream, kind = split_topic(topic)
    try:
        message = _decoder.decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise StreamerError(f"the message on {topic.decode()} cannot be read: {str(error)!r}") from error
    if message.kind != kind:
        raise StreamerError(f"the message on {topic.decode()} says that it is a {message.kind!r}")
    if message.stream != stream:
        message = msgspec.structs.replace(message, stream=stream)
    return message


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a payload."""
    generated = msgspec.json.schema(Message)
    for definition in generated["$defs"].values():  # docstrings; Python before 3.13 keeps their indentation
        definition["description"] = inspect.cleandoc(definition["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "act/1: action labels from live video",
        **generated,
    }


def topk(labels: Sequence[str], probabilities: Probabilities, k: int) -> list[tuple[str, float]]:
    """The `k` highest of probabilities [K] with their labels, best first, equal ones in the model's order."""
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [(labels[index], _rounded(probabilities[index])) for index in best]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a stream stands, for the common part of its messages; the fields are those of Common and Times."""

    epoch: int = 0
    ready: bool = False
    frame_us: int | None = None
    infer_us: int | None = None


class MessageBuilder:
    """Completes and numbers the messages of one session. Each message that it builds must be sent, or `seq` has holes.

    model    name@hash
    session  default: a new uuid
    now_us   the clock of `pub_us`, microseconds UTC; default: the frame's time, so that a recording replayed with a
             fixed session gives the same bytes each time
    """

    def __init__(
        self, model: str, mode: Mode, session: str | None = None, now_us: Callable[[], int] | None = None
    ) -> None:
        self.session = session or str(uuid.uuid4())
        self._model, self._mode, self._now_us = model, mode, now_us
        self._next_seq: dict[tuple[str, Kind], int] = {}
        self._event_ids: dict[str, str] = {}

    def event(self, stream: str, stamp: Stamp, event: Event) -> EventMessage:
        """An event of the stream's decider; its id is the stream's name and the `seq` of its start."""
        common = self._common(stream, "event", stamp)
        if event.type == "start":
            self._event_ids[stream] = f"{stream}-{common['seq']}"
        return EventMessage(
            **common,
            id=self._event_ids[stream],
            type=event.type,
            label=event.label,
            label_id=event.label_id,
            score=_rounded(event.score),
            peak=_rounded(event.peak),
            t_start_us=event.t_start_us,
            t_end_us=event.t_end_us,
            reason=event.reason,
        )

    def state(self, stream: str, stamp: Stamp, state: State) -> StateMessage:
        """The label in force."""
        return StateMessage(
            **self._common(stream, "state", stamp),
            label=state.label,
            label_id=state.label_id,
            score=None if state.score is None else _rounded(state.score),
            since_us=state.since_us,
        )

    def score(self, stream: str, stamp: Stamp, topk: list[tuple[str, float]], window: Window) -> ScoreMessage:
        """One evaluation, `topk` as the function of that name gives it."""
        return ScoreMessage(**self._common(stream, "score", stamp), topk=topk, window=window)

    def status(
        self,
        stream: str,
        stamp: Stamp,
        source: SourceState,
        detail: str = "",
        captured: int = 0,
        dropped: Mapping[str, int] | None = None,
        inferred: int = 0,
        reconnects: int = 0,
        fps_in: float | None = None,
        step_ms_p50: float | None = None,
        step_ms_p99: float | None = None,
        stage: int = 0,
    ) -> StatusMessage:
        """How the stream is doing; the arguments are the message's fields."""
        return StatusMessage(
            **self._common(stream, "status", stamp),
            source=source,
            detail=detail,
            captured=captured,
            dropped=dict(dropped or {}),
            inferred=inferred,
            reconnects=reconnects,
            fps_in=fps_in,
            step_ms_p50=step_ms_p50,
            step_ms_p99=step_ms_p99,
            stage=stage,
        )

    def gap(self, stream: str, stamp: Stamp, from_us: int, to_us: int, reason: str) -> GapMessage:
        """Time was lost."""
        return GapMessage(**self._common(stream, "gap", stamp), from_us=from_us, to_us=to_us, reason=reason)

    def _common(self, stream: str, kind: Kind, stamp: Stamp) -> dict[str, Any]:
        seq = self._next_seq.get((stream, kind), 0)
        self._next_seq[stream, kind] = seq + 1
        pub_us = self._now_us() if self._now_us else stamp.frame_us or 0
        return {
            "stream": stream,
            "session": self.session,
            "epoch": stamp.epoch,
            "seq": seq,
            "model": self._model,
            "mode": self._mode,
            "ready": stamp.ready,
            "ts": Times(frame_us=stamp.frame_us, infer_us=stamp.infer_us, pub_us=pub_us),
            "age_ms": None if stamp.frame_us is None else (pub_us - stamp.frame_us) / 1000,
        }


def _rounded(probability: float) -> float:
    """Six decimals, what a float32 has near one; its exact double would fill the payload with digits."""
    return round(float(probability), 6)
