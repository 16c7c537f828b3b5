"""What the hub passes on of what nodes say, and what it says itself where they cannot. Pure: no socket, no thread.

One term of a stream is heard, the newest; what others say is dropped, so that a node that was cut off and lives cannot
speak for a stream that is elsewhere by now. When a node goes, the relay ends what it left open: `end` with reason
`gap`, a `gap` with reason `moved`, `status: connecting`. In a warm move nothing ends: the term before is heard until
the new one speaks, which goes on with the event that is open, known by its label and its start.

A message that is lost on its way to the hub cannot break that every start has exactly one end: an event that the node
knows and the hub does not is started when an `update`, `end` or `state` tells of it, and one that the node does not
know any more is ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from streamer.errors import StreamerError
from streamer.fleet.facts import Assignment
from streamer.fleet.wire import Heard, join, split
from streamer.labels.events import MOVED, EndReason
from streamer.labels.messages import (
    Common,
    EventMessage,
    GapMessage,
    Kind,
    Message,
    SourceState,
    StateMessage,
    StatusMessage,
    Times,
    decode,
    split_topic,
    topic,
)

Out = tuple[bytes, bytes]
"""Topic and payload of a message that goes out."""
MOST_GONE = 10_000  # streams that were removed, of which it is known where their numbers stand
_READ = ("event", "state", "status", "gap")  # kinds that the relay must understand; the others it only passes on


@dataclass(slots=True)
class _Stream:
    """What the relay knows of a stream.

    term, node  to whom it was given last; before: the term that is heard until this one speaks, in a warm move
    fenced      nobody is heard until it is given to somebody
    silent      why nobody speaks for it, in a sentence; "": somebody does, or will soon
    speaker, spoken, session, numbers  of the last message heard: its node, its term, its session, its `seq` by kind
    epoch       that was told last, base: what it is more than the node's
    given       the node has given the stream away, and has no more to say of it
    open        the event that has started and not ended, as it was told
    latest      the last message heard
    """

    term: int = 0
    node: str = ""
    before: int = 0
    fenced: bool = False
    silent: str = ""
    speaker: str = ""
    spoken: int = 0
    session: str = ""
    numbers: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    base: int = 0
    given: bool = False
    open: EventMessage | None = None
    latest: Out | None = None
    status: StatusMessage | None = None


class Relay:
    """Messages of the nodes in, messages of the hub out.

    session  of the hub, which its messages have
    now_us   the clock of what the hub says itself, microseconds UTC
    left     events that a hub before this one had told the start of, by stream
    opened   is called with each start and end that goes out

    passed, fenced, lost: messages that went through, of a term that is not heard, and that never came from the nodes.
    speakers: the nodes that messages said they are of; to be emptied by whoever reads it.
    """

    def __init__(
        self,
        session: str,
        now_us: Callable[[], int],
        left: Mapping[str, EventMessage] | None = None,
        opened: Callable[[EventMessage], None] = lambda _: None,
    ) -> None:
        self.passed = self.fenced = self.lost = 0
        self.speakers: set[str] = set()
        self._session, self._now_us, self._opened = session, now_us, opened
        self._streams: dict[str, _Stream] = {}
        self._left = dict(left or {})  # until their streams are given to somebody
        self._next_seq: defaultdict[str, dict[str, int]] = defaultdict(dict)  # by stream and kind
        self._epochs: dict[str, int] = {}  # of streams that were removed, in case they come back

    @property
    def open(self) -> int:
        """How many events have started and not ended."""
        return len(self._left) + sum(stream.open is not None for stream in self._streams.values())

    @property
    def silent(self) -> int:
        """For how many streams nobody speaks."""
        return sum(bool(stream.silent) for stream in self._streams.values())

    def assign(self, new: Assignment) -> list[Out]:
        """A stream was given to a node, which begins anew. One that is not newer than what is known changes nothing."""
        stream = self._known(new.stream)
        if new.term <= stream.term:
            return []
        told = self._leave(new.stream, stream, f"it moves from {stream.node} to {new.node}") if stream.term else []
        stream.term, stream.node, stream.before, stream.fenced = new.term, new.node, 0, False
        return told

    def carry(self, new: Assignment) -> list[Out]:
        """A stream was given to a node together with its temporal state: as `assign`, but nothing ends."""
        stream = self._known(new.stream)
        if stream.silent or not stream.latest:  # nobody speaks from whom it could go on
            return self.assign(new)
        if new.term > stream.term:
            stream.before, stream.term, stream.node = stream.spoken, new.term, new.node
        return []

    def down(self, node: str, why: str) -> list[Out]:
        """A node is gone: nothing is heard of its streams until they are given to somebody."""
        gone = [(name, stream) for name, stream in self._streams.items() if stream.node == node]
        return [out for name, stream in gone for out in self._leave(name, stream, why)]

    def waits(self, name: str, why: str) -> list[Out]:
        """Nobody has the stream, for this reason."""
        return self._leave(name, self._known(name), why)

    def remove(self, name: str) -> list[Out]:
        """The stream is no more: its event ends, and its status is `stopped`."""
        stream = self._streams.get(name)
        if stream is None:
            return []
        told = [*self._close(name, stream, "shutdown"), self._status(name, stream, "stopped", "")]
        del self._streams[name]
        self._forget(name, stream.epoch)
        return told

    def repeat(self) -> list[Out]:
        """What is told every few seconds: how those streams are that nobody speaks for."""
        silent = [(name, stream) for name, stream in self._streams.items() if stream.silent]
        return [self._status(name, stream, "connecting", stream.silent) for name, stream in silent]

    def settle(self) -> list[Out]:
        """End what a hub before this one left open, of streams that nobody has been given since."""
        told = []
        for name in list(self._left):
            told += self._close(name, self._known(name), "gap")
            self._forget(name, self._streams.pop(name).epoch)
        return told

    def end(self) -> list[Out]:
        """The hub ends, and so do the events; the status of all streams is `stopped`."""
        return [*self.settle(), *(out for name in list(self._streams) for out in self.remove(name))]

    def hear(self, name: bytes, payload: bytes) -> list[Out]:
        """A message of a node: what goes out for it. Raises StreamerError for what is no message."""
        stream_name, kind = split_topic(name)
        heard = split(payload)
        message = decode(name, payload) if kind in _READ else None
        self.speakers.add(heard.node)
        stream = self._streams.get(stream_name)
        if stream is None or not self._is_heard(stream, heard.term):
            self.fenced += 1
            return []
        told = self._follow(stream_name, stream, heard)
        if told is None:
            return []
        stream.given |= isinstance(message, EventMessage) and message.reason == MOVED
        if stream.given:  # what it says of the end is not so: another node goes on
            return told
        stream.latest = (name, payload)
        heard.kind = kind
        match message:
            case EventMessage():
                return told + self._event(stream_name, stream, heard, message)
            case StateMessage():
                told += self._compare(stream_name, stream, message)
            case StatusMessage(source="stopped"):
                return told if message.detail == MOVED else told + self._stopped(stream_name, stream)
            case StatusMessage():
                stream.status = message
            case GapMessage():
                told += self._close(stream_name, stream, "gap")
        return [*told, self._pass(stream_name, stream, heard)]

    def _known(self, name: str) -> _Stream:
        if name not in self._streams:
            self._streams[name] = _Stream(epoch=self._epochs.pop(name, -1) + 1, open=self._left.pop(name, None))
        return self._streams[name]

    def _forget(self, name: str, epoch: int) -> None:
        """Remember of a stream that is gone where its numbers stand, and of the oldest of too many nothing."""
        self._epochs[name] = epoch
        if len(self._epochs) > MOST_GONE:
            oldest = next(iter(self._epochs))
            del self._epochs[oldest]
            self._next_seq.pop(oldest, None)

    def _is_heard(self, stream: _Stream, term: int) -> bool:
        """Whether a term is passed on. In a warm move the first message of the new one ends the one before."""
        if not term or stream.fenced or term not in (stream.term, stream.before):
            return False
        if term == stream.term:
            stream.before = 0
        return True

    def _follow(self, name: str, stream: _Stream, heard: Heard) -> list[Out] | None:
        """Follow the node's session and its `seq`; None for a message that was heard before."""
        told: list[Out] = []
        if (heard.term, heard.session) != (stream.spoken, stream.session):
            if heard.term == stream.spoken and not stream.silent:  # the node's run was started anew
                told = self._leave(name, stream, f"{stream.node} starts anew")
                stream.fenced = False
            stream.spoken, stream.session, stream.numbers = heard.term, heard.session, {}
            stream.base = stream.epoch - heard.epoch
            stream.speaker, stream.given = stream.node, False
        last = stream.numbers.get(heard.kind)
        if last is not None and heard.seq <= last:
            return None
        self.lost += 0 if last is None else heard.seq - last - 1
        stream.numbers[heard.kind] = heard.seq
        stream.silent = ""
        stream.epoch = stream.base + heard.epoch
        return told

    def _pass(self, name: str, stream: _Stream, heard: Heard) -> Out:
        """The message as the hub's own."""
        heard.session, heard.epoch, heard.seq = self._session, stream.epoch, self._seq(name, heard.kind)
        heard.node = stream.speaker
        self.passed += 1
        return f"act/1/{name}/{heard.kind}/".encode(), join(heard, name)

    def _event(self, name: str, stream: _Stream, heard: Heard, event: EventMessage) -> list[Out]:
        is_same = _is_of(stream.open, event.label, event.t_start_us)
        if event.type == "start" and is_same:  # it was moved here, or a hub before this one told it
            return []
        told = [] if is_same else self._end(name, stream, "gap")
        if event.type == "start":
            event_id = self._new_id(name)
        else:
            if not stream.open:  # the start was lost on its way
                told += self._begin(name, stream, event)
            assert stream.open
            event_id = stream.open.id
        fields = msgspec.json.decode(b"{" + heard.rest)
        heard.rest = msgspec.json.encode({**fields, "id": event_id})[1:]
        self._tell(stream, msgspec.structs.replace(event, id=event_id))
        return [*told, self._pass(name, stream, heard)]

    def _compare(self, name: str, stream: _Stream, state: StateMessage) -> list[Out]:
        """Begin and end what a node's label in force tells that was lost."""
        if state.label is None or state.since_us is None:
            return self._end(name, stream, "gap")
        if _is_of(stream.open, state.label, state.since_us):
            return []
        return [*self._end(name, stream, "gap"), *self._begin(name, stream, state)]

    def _stopped(self, name: str, stream: _Stream) -> list[Out]:
        """The node has ended the stream, but it is not removed: somebody will begin it anew."""
        told = self._leave(name, stream, f"{stream.node} has stopped it")
        stream.fenced = False
        return told

    def _leave(self, name: str, stream: _Stream, why: str) -> list[Out]:
        """Nobody speaks for a stream any more; what is open ends."""
        stream.fenced, before, stream.silent = True, stream.silent, why
        told = self._close(name, stream, "gap")
        if not before and (last := self._last(stream)) and last.ts.frame_us is not None:
            stream.epoch += 1
            told.append(
                self._made(
                    name, stream, GapMessage, "gap", from_us=last.ts.frame_us, to_us=self._now_us(), reason=MOVED
                )
            )
        return told if before == why else [*told, self._status(name, stream, "connecting", why)]

    def _begin(self, name: str, stream: _Stream, known: EventMessage | StateMessage) -> list[Out]:
        """The start of an event that was not heard, from what is known of it."""
        score = known.score or 0.0
        own: dict[str, Any] = {"label": known.label, "label_id": known.label_id or 0, "score": score}
        if isinstance(known, EventMessage):
            own |= {"peak": known.peak, "t_start_us": known.t_start_us}
        else:
            own |= {"peak": score, "t_start_us": known.since_us}
        start = {"id": self._new_id(name), "type": "start", "t_end_us": None, "reason": None}
        return [self._made(name, stream, EventMessage, "event", **start, **own)]

    def _end(self, name: str, stream: _Stream, reason: EndReason) -> list[Out]:
        """The end of the open event, if there is one."""
        event = stream.open
        if event is None:
            return []
        last = self._last(stream)
        end_us = max(event.t_start_us, self._now_us() if last is None else last.ts.frame_us or 0)
        own = {name: getattr(event, name) for name in ("id", "label", "label_id", "score", "peak", "t_start_us")}
        return [self._made(name, stream, EventMessage, "event", **own, type="end", t_end_us=end_us, reason=reason)]

    def _close(self, name: str, stream: _Stream, reason: EndReason) -> list[Out]:
        """The end of the open event, and that no label is in force."""
        told = self._end(name, stream, reason)
        nothing = {"label": None, "label_id": None, "score": None, "since_us": self._now_us()}
        return [*told, self._made(name, stream, StateMessage, "state", **nothing)] if told else []

    def _status(self, name: str, stream: _Stream, source: SourceState, detail: str) -> Out:
        counts: dict[str, Any] = {
            "captured": 0, "dropped": {}, "inferred": 0, "reconnects": 0, "step_ms_p50": None, "step_ms_p99": None,
        }  # fmt: skip
        if stream.status:
            counts = {name: getattr(stream.status, name) for name in counts}
        return self._made(name, stream, StatusMessage, "status", source=source, detail=detail, fps_in=None, **counts)

    def _made(self, name: str, stream: _Stream, kind_of: type[Common], kind: Kind, **fields: Any) -> Out:
        """A message of the hub's own."""
        last, now_us = self._last(stream), self._now_us()
        frame_us, infer_us = (last.ts.frame_us, last.ts.infer_us) if last else (None, None)
        message = kind_of(
            stream=name, session=self._session, epoch=stream.epoch, seq=self._seq(name, kind),
            node=stream.node or UNSET, term=stream.term or UNSET, model=last.model if last else "", ready=False,
            mode=last.mode if last else "stream", ts=Times(frame_us=frame_us, infer_us=infer_us, pub_us=now_us),
            age_ms=None if frame_us is None else (now_us - frame_us) / 1000, **fields,
        )  # fmt: skip
        if isinstance(message, EventMessage):
            self._tell(stream, message)
        return topic(name, kind).encode(), msgspec.json.encode(message)

    def _tell(self, stream: _Stream, event: EventMessage) -> None:
        """Remember an event that goes out as the open one, or that there is none."""
        stream.open = None if event.type == "end" else event
        if event.type != "update":
            self._opened(event)

    def _last(self, stream: _Stream) -> Message | None:
        """The last message heard, if it is one that this version knows."""
        with suppress(StreamerError):
            return decode(*stream.latest) if stream.latest else None
        return None

    def _seq(self, name: str, kind: str) -> int:
        numbers = self._next_seq[name]
        numbers[kind] = numbers.get(kind, 0) + 1
        return numbers[kind] - 1

    def _new_id(self, name: str) -> str:
        """Of the event that is told next; no other has it, also not of another hub."""
        return f"{name}-{self._session[:8]}-{self._next_seq[name].get('event', 0)}"


def _is_of(event: EventMessage | None, label: str, start_us: int) -> bool:
    return event is not None and (event.label, event.t_start_us) == (label, start_us)
