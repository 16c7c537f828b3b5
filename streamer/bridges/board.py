"""What an MQTT broker is told of the streams. Pure: no broker, and no clock of its own.

    PREFIX/STREAM/event         an event's message, and `event_type`; not retained, so nobody takes an old one for new
    PREFIX/STREAM/state         the last message, when the label in force has changed; retained
    PREFIX/STREAM/status        the last message; retained
    PREFIX/STREAM/available     online while the stream's source is, and its run is heard; else offline; retained
    PREFIX/STREAM/label/SLUG    ON from an event's start to its end, else OFF; retained

A label is on only while somebody says so: an event that ended, a `state` with another label (its end may have been
lost), another run, a stream that stopped, and SILENT_S without a word each switch it off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from streamer.bridges import homeassistant
from streamer.bridges.homeassistant import OFF, OFFLINE, ON, ONLINE
from streamer.bridges.names import slug
from streamer.labels.messages import EventMessage, Message, StateMessage, StatusMessage, encode

SILENT_S = 5.0
MOST_STREAMS = 1000  # then one that is away makes room
MOST_LABELS = 1000  # of a stream; the labels beyond have no sensor of their own
MOST_EXPECTED = 100  # labels that have sensors before they happen; a model that knows more gets them as they happen
_LIVE = ("online", "degraded")


@dataclass(frozen=True, slots=True)
class Post:
    """One thing to publish. retained: the broker keeps it, and only the newest of a topic counts; b"" ends that."""

    topic: str
    payload: bytes
    retained: bool = True


@dataclass(slots=True)
class _Stream:
    session: str
    model: str
    heard_s: float
    live: bool = True
    available: bool | None = None
    on: str | None = None
    told: tuple[str | None, str] | None = None  # the label and the session of the last state told
    labels: set[str] = field(default_factory=set)


class Board:
    """Turns messages into posts.

    prefix     begins all topics
    discovery  begins those of Home Assistant; None: it is told nothing
    labels     only these have sensors, from the beginning; none: all, as they happen
    """

    def __init__(self, prefix: str, discovery: str | None = "homeassistant", labels: Iterable[str] = ()) -> None:
        self._prefix, self._discovery = prefix, discovery
        self._only = frozenset(labels)
        self._expected: dict[str, list[str]] = {}  # session -> labels
        self._streams: dict[str, _Stream] = {}
        self.passed_over = 0  # messages of more streams, and sensors of more labels, than there may be

    def take(self, message: Message, now_s: float) -> Iterator[Post]:
        """What a message changes."""
        stream = self._streams.get(message.stream)
        if stream is None:
            if len(self._streams) >= MOST_STREAMS:
                yield from self._make_room()
            if len(self._streams) >= MOST_STREAMS:
                self.passed_over += 1
                return
            stream = self._streams[message.stream] = _Stream(message.session, message.model, now_s)
            yield from self._introduce(message.stream, stream)
        elif (stream.session, stream.model) != (message.session, message.model):
            yield from self._switch(message.stream, stream, None)
            stream.session, stream.model, stream.live = message.session, message.model, True
            yield from self._introduce(message.stream, stream)
        stream.heard_s = now_s
        yield from self._told(message, stream)
        yield from self._avail(message.stream, stream, stream.live)

    def expect(self, session: str, labels: Iterable[str]) -> Iterator[Post]:
        """These labels can happen in a run; those that Home Assistant shall see at once."""
        wanted = [label for label in labels if not self._only or label in self._only]
        if len(wanted) > MOST_EXPECTED:
            return
        self._expected = {session: wanted}
        for name, stream in self._streams.items():
            if stream.session == session:
                yield from self._introduce(name, stream)

    def look(self, now_s: float) -> Iterator[Post]:
        """Nobody speaks for a stream that has been silent for too long."""
        for name, stream in self._streams.items():
            if stream.available and now_s - stream.heard_s > SILENT_S:
                yield from self._leave(name, stream)

    def close(self) -> Iterator[Post]:
        """The bridge ends, so it speaks for nothing any more."""
        for name, stream in self._streams.items():
            yield from self._leave(name, stream)

    def found(self, topic: str, payload: bytes) -> Iterator[Post]:
        """What the broker had kept, perhaps since a bridge was killed: right it where nobody has said it meanwhile."""
        match topic.removeprefix(f"{self._prefix}/").split("/"):
            case [name, "label", sensor] if payload == ON:
                stream = self._streams.get(name)
                if stream is None or sensor not in map(slug, stream.labels):
                    yield Post(topic, OFF)
            case [name, "available"] if payload == ONLINE and name not in self._streams:
                yield Post(topic, OFFLINE)

    def _told(self, message: Message, stream: _Stream) -> Iterator[Post]:
        name = message.stream
        topic = f"{self._prefix}/{name}/{message.kind}"
        match message:
            case EventMessage():
                shown = {**msgspec.to_builtins(message), "event_type": message.type}
                if not self._only or message.label in self._only:
                    yield Post(topic, msgspec.json.encode(shown), retained=False)
                if message.type == "end":
                    yield from self._switch(name, stream, None if stream.on == message.label else stream.on)
                    yield from self._learn(name, stream, message.label)
                else:
                    yield from self._switch(name, stream, message.label)
            case StateMessage():
                if stream.told != (message.label, message.session):
                    stream.told = message.label, message.session
                    yield Post(topic, encode(message))
                yield from self._switch(name, stream, message.label)
            case StatusMessage():
                stream.live = message.source in _LIVE
                if message.source == "stopped":
                    yield from self._switch(name, stream, None)
                yield Post(topic, encode(message))

    def _make_room(self) -> Iterator[Post]:
        """Forget the stream that has been away for the longest time, at the broker and in Home Assistant, too."""
        away = [name for name, stream in self._streams.items() if not stream.available]
        if away:
            name = min(away, key=lambda name: self._streams[name].heard_s)
            stream = self._streams.pop(name)
            topics = [self._sensor(name, label) for label in stream.labels]
            topics += [f"{self._prefix}/{name}/{what}" for what in ("state", "status", "available")]
            topics += [post.topic for post in self._discover(name, stream)]
            for topic in topics:
                yield Post(topic, b"")

    def _leave(self, name: str, stream: _Stream) -> Iterator[Post]:
        yield from self._switch(name, stream, None)
        yield from self._avail(name, stream, available=False)

    def _avail(self, name: str, stream: _Stream, available: bool) -> Iterator[Post]:
        if stream.available != available:
            stream.available = available
            yield Post(f"{self._prefix}/{name}/available", ONLINE if available else OFFLINE)

    def _switch(self, name: str, stream: _Stream, label: str | None) -> Iterator[Post]:
        """Let this label be on, and no other."""
        if label == stream.on:
            return
        if stream.on is not None:
            yield Post(self._sensor(name, stream.on), OFF)
        stream.on = None
        if label is not None:
            yield from self._learn(name, stream, label)
            if label in stream.labels:
                stream.on = label
                yield Post(self._sensor(name, label), ON)

    def _learn(self, name: str, stream: _Stream, label: str) -> Iterator[Post]:
        """A label has happened, or may happen: it has a sensor from now on."""
        if label in stream.labels or (self._only and label not in self._only):
            return
        if len(stream.labels) >= MOST_LABELS:
            self.passed_over += 1
            return
        stream.labels.add(label)
        yield Post(self._sensor(name, label), OFF)
        if self._discovery:
            yield self._found_at(homeassistant.label_sensor(self._prefix, name, label, stream.model))

    def _introduce(self, name: str, stream: _Stream) -> Iterator[Post]:
        """Tell Home Assistant of a stream, and of the labels that it is known to have."""
        yield from self._discover(name, stream)  # its device tells the model of now
        for label in [*sorted(self._only), *self._expected.get(stream.session, ())]:
            yield from self._learn(name, stream, label)

    def _discover(self, name: str, stream: _Stream) -> Iterator[Post]:
        """How Home Assistant finds a stream, and its labels as far as they are known."""
        if self._discovery:
            yield self._found_at(homeassistant.event_entity(self._prefix, name, stream.model))
            for label in sorted(stream.labels):
                yield self._found_at(homeassistant.label_sensor(self._prefix, name, label, stream.model))

    def _found_at(self, entity: tuple[str, dict[str, object]]) -> Post:
        topic, configuration = entity
        return Post(f"{self._discovery}/{topic}", json.dumps(configuration, ensure_ascii=False).encode())

    def _sensor(self, name: str, label: str) -> str:
        return f"{self._prefix}/{name}/label/{slug(label)}"
