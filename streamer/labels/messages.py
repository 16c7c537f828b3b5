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
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from streamer.errors import ConfigError, StreamerError
from streamer.labels.events import EndReason, Event, EventType, State
from streamer.types import Probabilities

Kind = Literal["event", "state", "score", "status", "gap"]
Mode = Literal["stream", "window"]
SourceState = Literal["online", "degraded", "connecting", "stalled", "offline", "ended", "stopped"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROOT = "act/1/"


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """When things happened, microseconds UTC."""

    frame_us: Annotated[int | None, Meta(description="The newest frame was captured; null before the first one.")]
    infer_us: Annotated[int | None, Meta(description="The model had seen it; null before the first inference.")]
    pub_us: Annotated[int, Meta(description="The message was published.")]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The frames that the model looked at."""

    n: Annotated[int, Meta(description="How many.")]
    step_ms: Annotated[float, Meta(description="Their nominal distance, milliseconds.")]
    first_us: Annotated[int, Meta(description="When the first one was captured, microseconds UTC.")]
    last_us: Annotated[int, Meta(description="When the last one was captured, microseconds UTC.")]


class ClipPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The clip of an event."""

    name: Annotated[str, Meta(description="Of its files, NAME.mp4 and NAME.json.")]
    start_us: Annotated[int, Meta(description="When its first picture was captured, microseconds UTC.")]


class Common(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message carries."""

    v: Annotated[Literal[1], Meta(description="Version of the format.")] = 1
    stream: Annotated[str, Meta(description="As in the topic, for messages that are kept without it.")] = ""
    session: Annotated[str, Meta(description="UUID of this run of the publisher.")]
    epoch: Annotated[int, Meta(description="+1 at every reset of this stream's temporal state.")]
    seq: Annotated[
        int,
        Meta(description="Per stream and kind, from 0, without holes at the publisher; a hole is a message you lost."),
    ]
    node: Annotated[str | UnsetType, Meta(description="The machine that it comes from; only in a fleet.")] = UNSET
    term: Annotated[
        int | UnsetType,
        Meta(description="Grows each time that the stream is given to a machine; only in a fleet."),
    ] = UNSET
    model: Annotated[str, Meta(description="name@hash.")]
    mode: Annotated[Mode, Meta(description="`stream`: one frame a step; `window`: the last frames, anew each time.")]
    ready: Annotated[bool, Meta(description="The model has seen as many frames as it needs.")]
    ts: Annotated[Times, Meta(description="When the frame was captured, inferred and published.")]
    age_ms: Annotated[float | None, Meta(description="From capture to publication, milliseconds: pub_us - frame_us.")]

    @property
    def kind(self) -> Kind:
        """The message's kind, as in its topic."""
        return cast("Kind", self.__struct_config__.tag)


class EventMessage(Common, frozen=True, kw_only=True, tag="event"):
    """An action starts, gets clearer (`update`) or ends. Every start is followed by exactly one end."""

    id: Annotated[str, Meta(description="The same from start to end; unique within the session.")]
    type: EventType
    label: str
    label_id: Annotated[int, Meta(description="The label's place in the model's list, from 0.")]
    score: Annotated[float, Meta(description="Raw probability at the frame that decided; at an end it is low.")]
    peak: Annotated[float, Meta(description="Highest raw probability of the event so far.")]
    t_start_us: Annotated[int, Meta(description="When the action began, microseconds UTC.")]
    t_end_us: Annotated[int | None, Meta(description="When it ended, microseconds UTC; null before the end.")]
    reason: Annotated[EndReason | None, Meta(description="Why it ended; null before the end.")]
    clip: Annotated[
        ClipPlace | None,
        Meta(description="At an end: the clip, if there is one. Its file comes later, or never if the disk is full."),
    ] = None


class StateMessage(Common, frozen=True, kw_only=True, tag="state"):
    """The label in force, or null: at each change, every second, and again for a new subscription."""

    label: str | None
    label_id: Annotated[int | None, Meta(description="The label's place in the model's list, from 0.")]
    score: Annotated[float | None, Meta(description="Its raw probability now.")]
    since_us: Annotated[int | None, Meta(description="Since when, microseconds UTC.")]


class ScoreMessage(Common, frozen=True, kw_only=True, tag="score"):
    """One evaluation of the model."""

    topk: Annotated[
        list[tuple[str, float]],
        Meta(
            description="The highest probabilities, raw: pairs of label and probability. With `events.unknown` those "
            "of all labels sum to less than 1."
        ),
    ]
    window: Annotated[Window, Meta(description="The frames that it looked at.")]


class StatusMessage(Common, frozen=True, kw_only=True, tag="status"):
    """How the stream is doing: at each change, every 5 seconds, and again for a new subscription.

    `degraded` is online, but the engine is too slow, so fewer frames are taken than the model was trained at. Counts
    are since the stream began.
    """

    source: SourceState
    detail: Annotated[
        str, Meta(description="Why, in a sentence; also of an online source that is slower than the model.")
    ]
    captured: Annotated[int, Meta(description="Frames that the source gave.")]
    dropped: Annotated[dict[str, int], Meta(description="Frames that the model did not see, by reason.")]
    inferred: Annotated[
        int, Meta(description="Frames that the model saw; pictures interpolated between them are not counted.")
    ]
    reconnects: Annotated[int, Meta(description="Connections after the first one.")]
    fps_in: Annotated[float | None, Meta(description="Frames a second that arrive; null until measured.")]
    step_ms_p50: Annotated[float | None, Meta(description="Median of a model step, milliseconds; null until measured.")]
    step_ms_p99: Annotated[float | None, Meta(description="Its 99th percentile.")]
    stage: Annotated[int, Meta(description="How far load is shed, 0 to 5; 0: not at all.")] = 0
    since_us: Annotated[int | None, Meta(description="Since when the source is so, microseconds UTC.")] = None
    retry_us: Annotated[int | None, Meta(description="When it is connected again, microseconds UTC; else null.")] = None


class GapMessage(Common, frozen=True, kw_only=True, tag="gap"):
    """The temporal state started anew, since time was lost or another model took over."""

    from_us: Annotated[
        int, Meta(description="The last frame before it, microseconds UTC; for `clock` by the old time.")
    ]
    to_us: Annotated[
        int, Meta(description="The first frame after it; for `clock` by the new time, which may be before `from_us`.")
    ]
    reason: Annotated[
        str,
        Meta(
            description="`gap`, `reconnect`, `reset`; `clock`: a clock was set, and nothing was lost; `model`: another "
            "model took over; `moved`: another machine does, `to_us` is when that was known."
        ),
    ]


Message = EventMessage | StateMessage | ScoreMessage | StatusMessage | GapMessage


class _Version(msgspec.Struct):
    v: int


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
        later = "; it is of a later version, so update this program" if _is_later(payload) else ""
        raise StreamerError(f"the message on {topic.decode()} cannot be read: {str(error)!r}{later}") from error
    if message.kind != kind:
        raise StreamerError(f"the message on {topic.decode()} says that it is a {message.kind!r}")
    if message.stream != stream:
        message = msgspec.structs.replace(message, stream=stream)
    return message


def _is_later(payload: bytes) -> bool:
    """Whether a payload that cannot be read says that it is of a version that did not exist yet."""
    try:
        return msgspec.json.decode(payload, type=_Version).v > 1
    except (ValueError, RecursionError):
        return False


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
    """Where a stream stands, for the common part of its messages; the fields are those of Common and Times.

    term: 0 for none
    """

    epoch: int = 0
    ready: bool = False
    frame_us: int | None = None
    infer_us: int | None = None
    term: int = 0


class MessageBuilder:
    """Completes and numbers the messages of one session. Each message that it builds must be sent, or `seq` has holes.

    model    name@hash
    session  default: a new uuid
    now_us   the clock of `pub_us`, microseconds UTC; default: the frame's time, so that a recording replayed with a
             fixed session gives the same bytes each time
    node     this machine's name in a fleet
    """

    def __init__(
        self,
        model: str,
        mode: Mode,
        session: str | None = None,
        now_us: Callable[[], int] | None = None,
        node: str | None = None,
    ) -> None:
        self.session = session or str(uuid.uuid4())
        self._model, self._mode, self._now_us = model, mode, now_us
        self._node = node or UNSET
        self._next_seq: dict[tuple[str, Kind], int] = {}
        self._event_ids: dict[str, str] = {}

    def become(self, model: str, mode: Mode) -> None:
        """Tell of another model from now on."""
        self._model, self._mode = model, mode

    def event(self, stream: str, stamp: Stamp, event: Event, clip: ClipPlace | None = None) -> EventMessage:
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
            clip=clip,
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
        since_us: int | None = None,
        retry_us: int | None = None,
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
            since_us=since_us,
            retry_us=retry_us,
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
            "node": self._node,
            "term": stamp.term or UNSET,
            "model": self._model,
            "mode": self._mode,
            "ready": stamp.ready,
            "ts": Times(frame_us=stamp.frame_us, infer_us=stamp.infer_us, pub_us=pub_us),
            "age_ms": None if stamp.frame_us is None else (pub_us - stamp.frame_us) / 1000,
        }


def _rounded(probability: float) -> float:
    """Six decimals, what a float32 has near one; its exact double would fill the payload with digits."""
    return round(float(probability), 6)
