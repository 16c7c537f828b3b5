"""Nodes as the hub hears them, a relay between them and a reader, and the rules that hold whatever happens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

from streamer.fleet.facts import Assignment
from streamer.fleet.relay import Out, Relay
from streamer.labels.events import Event, State
from streamer.labels.messages import EventMessage, Message, MessageBuilder, Stamp, decode, encode, topic
from tests.streamer.labels.peers import WINDOW

DAY = 1_700_000_000_000_000


class Node:
    """A run of a fleet, as the hub hears it: what a stream's decider and builder would send, on demand."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self.clock = name, clock
        self.build = MessageBuilder(f"net@{name}", "stream", now_us=clock.now_us, node=name)
        self.terms: dict[str, int] = {}
        self.open: dict[str, tuple[str, int]] = {}  # stream -> label and start of its event
        self.given: dict[str, tuple[str, int]] = {}  # likewise, on its way to another node
        self.epoch = 0

    def stamp(self, stream: str) -> Stamp:
        return Stamp(self.epoch, True, self.clock.us, self.clock.us, self.terms[stream])

    def start(self, stream: str, label: str = "wave") -> list[Message]:
        if stream in self.open:
            return []
        self.open[stream] = label, self.clock.us
        return [self._event(stream, "start"), self.state(stream)]

    def update(self, stream: str) -> list[Message]:
        return [self._event(stream, "update")] if stream in self.open else []

    def end(self, stream: str, reason: Any = "score") -> list[Message]:
        if stream not in self.open:
            return []
        ended = self._event(stream, "end", reason)
        del self.open[stream]
        return [ended, self.state(stream)]

    def state(self, stream: str) -> Message:
        label, since_us = self.open.get(stream, (None, self.clock.us))
        state = State(label, 0 if label else None, 0.9 if label else None, since_us)
        return self.build.state(stream, self.stamp(stream), state)

    def score(self, stream: str) -> Message:
        return self.build.score(stream, self.stamp(stream), [("wave", 0.9)], WINDOW)

    def status(self, stream: str, source: Any = "online", detail: str = "") -> Message:
        return self.build.status(stream, self.stamp(stream), source, detail, captured=5)

    def gap(self, stream: str) -> list[Message]:
        told = self.end(stream, "gap")
        self.epoch += 1
        return [*told, self.build.gap(stream, self.stamp(stream), self.clock.us - 1, self.clock.us, "gap")]

    def give(self, stream: str) -> list[Message]:
        """As a run does whose stream's state is asked for."""
        told = [self._event(stream, "end", "moved")] if stream in self.open else []
        if event := self.open.pop(stream, None):
            told.append(self.state(stream))
            self.given[stream] = event
        return [*told, self.status(stream, "stopped", "moved")]

    def take(self, stream: str, term: int, before: Node) -> list[Message]:
        self.terms[stream] = term
        told = [self.status(stream)]
        if stream in before.given:
            self.open[stream] = before.given.pop(stream)
            told.append(self._event(stream, "start"))
        return [*told, self.state(stream)]

    def _event(self, stream: str, kind: Any, reason: Any = None) -> Message:
        label, start_us = self.open[stream]
        end_us = self.clock.us if kind == "end" else None
        event = Event(kind, label, 0, 0.9, 0.95, start_us, end_us, reason)
        return self.build.event(stream, self.stamp(stream), event)


class Clock:
    def __init__(self) -> None:
        self.us = DAY

    def now_us(self) -> int:
        return self.us


class Fleet:
    """A relay, nodes, and what a reader was told. Every message that goes out is held to the rules of the wire."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes = {name: Node(name, self.clock) for name in "abc"}
        self.told: list[Message] = []
        self.left: dict[str, EventMessage] = {}
        self.heads = 0
        self.begin()

    def begin(self) -> None:
        """A hub begins; one before it left its journal."""
        self.heads += 1
        self.relay = Relay(f"session{self.heads}", self.clock.now_us, dict(self.left), self._note)

    def _note(self, event: EventMessage) -> None:
        if event.type == "end":
            self.left.pop(event.stream, None)
        else:
            self.left[event.stream] = event

    def take(self, outs: Iterable[Out]) -> list[Message]:
        new = [decode(*out) for out in outs]
        self.told += new
        return new

    def hear(self, *messages: Message) -> list[Message]:
        outs = []
        for message in messages:
            outs += self.relay.hear(topic(message.stream, message.kind).encode(), encode(message))
        return self.take(outs)

    def assign(self, stream: str, node: str, term: int) -> list[Message]:
        self.nodes[node].terms[stream] = term
        self.nodes[node].open.pop(stream, None)
        return self.take(self.relay.assign(Assignment(stream, node, term)))


def check(told: list[Message]) -> None:
    """The rules of the wire, of all that a reader was told."""
    seqs: dict[Any, int] = defaultdict(int)
    open_ids: dict[str, str | None] = defaultdict(lambda: None)
    terms: dict[str, int] = defaultdict(int)
    epochs: dict[Any, int] = defaultdict(int)
    ids: set[str] = set()
    for message in told:
        key = message.session, message.stream, message.kind
        assert message.seq == seqs[key], "seq has a hole"
        seqs[key] += 1
        term = terms[message.stream] if message.term is UNSET else message.term  # nobody was given it yet
        assert term >= terms[message.stream], "an older term was heard after a newer one"
        terms[message.stream] = term
        assert message.epoch >= epochs[message.session, message.stream]
        epochs[message.session, message.stream] = message.epoch
        if isinstance(message, EventMessage):
            if message.type == "start":
                assert open_ids[message.stream] is None, "a start without an end before it"
                assert message.id not in ids
                ids.add(message.id)
                open_ids[message.stream] = message.id
            else:
                assert open_ids[message.stream] == message.id, "an end or update without its start"
                if message.type == "end":
                    open_ids[message.stream] = None
                    assert message.t_end_us is not None
                    assert message.t_end_us >= message.t_start_us
    assert not any(open_ids.values()), "a start without an end"
