"""What a head can be asked, and what it answers; desk.py has the socket.

status                                the nodes and the streams
add      source                       one more source, written as in fleet.yaml
remove   stream                       a source leaves the fleet
move     stream node                  a source goes to a node, with what it remembers
balance                               streams move until the nodes are evenly loaded
drain    node, back: false            a node takes no more streams, and its own go elsewhere; back: it takes some again
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

import msgspec

from streamer.errors import ConfigError
from streamer.fleet.config import check_address, check_names, fleet_source
from streamer.fleet.facts import NodeFacts
from streamer.fleet.head import Head
from streamer.fleet.placing import balance
from streamer.fleet.seats import NodeReport, NodeState, Report, Seat
from streamer.labels.commands import Written, decoded


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command", tag=str.lower):
    pass


class Status(_Order, frozen=True):
    """The nodes and the streams."""


class Add(_Order, frozen=True):
    """One more source."""

    source: Written


class Remove(_Order, frozen=True):
    """A source leaves."""

    stream: str


class Move(_Order, frozen=True):
    """A source goes to a node."""

    stream: str
    node: str


class Balance(_Order, frozen=True):
    """Make it even."""


class Drain(_Order, frozen=True):
    """Empty a node."""

    node: str
    back: bool = False


Order = Status | Add | Remove | Move | Balance | Drain
_decoder: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


def parse(request: bytes) -> Order:
    """An order. Raises ConfigError."""
    return decoded(request, _decoder, (kind.__name__.lower() for kind in get_args(Order)))


class Orders:
    """Does what a head is asked, in its thread.

    labels     where they are published
    refused    nodes that may not join, and why
    from_file  the names of sources that the configuration has
    stats      what the hub counts
    """

    def __init__(
        self,
        head: Head,
        labels: str,
        refused: Mapping[str, str],
        from_file: Collection[str],
        stats: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._head, self._labels, self._refused = head, labels, refused
        self._from_file, self._stats = from_file, stats

    def act(self, order: Order) -> Any:
        """Do it; returns the answer. Raises ConfigError."""
        match order:
            case Status():
                return self.report()
            case Add(source):
                return {"stream": self.add(source)}
            case Remove(stream):
                self.remove(stream)
                return {"stream": stream, "comes_back": stream in self._from_file}
            case Move(stream, node):
                self.move(stream, node)
                return {"stream": stream, "node": node}
            case Balance():
                return {"moves": self.balance()}
            case Drain(node, back):
                return {"node": node, "streams": self.drain(node, back)}

    def add(self, written: Written) -> str:
        """One more source; returns its name."""
        head, source = self._head, fleet_source(written)
        check_address(source)
        check_names([source, *(seat.source for seat in head.seats.values())])
        head.added[source.called] = source
        head.seats[source.called] = Seat(source)
        head.changed = True
        head.keep()
        return source.called

    def remove(self, name: str) -> None:
        """A source leaves the fleet."""
        head, seat = self._head, self._head.seat(name)
        if name in head.moves:
            raise ConfigError(f"{name} is on its way to {head.moves[name][1].node}; try again in a moment")
        head.added.pop(name, None)
        head.queue.pop(name, None)
        del head.seats[name]
        head.keep()
        for stream in seat.streams:
            head.hub.remove(stream)
        if seat.assignment:
            head.take_away(seat, seat.assignment)
        head.changed = True

    def move(self, name: str, node: str) -> None:
        """A source goes to a node."""
        head, seat = self._head, self._head.seat(name)
        head.node(node)
        if not head.takes(node):
            raise ConfigError(f"{node} takes no streams now; `streamer fleet status` tells why")
        if name in head.moves:
            raise ConfigError(f"{name} is on its way to {head.moves[name][1].node} already")
        if not seat.assignment or seat.adding:
            raise ConfigError(f"{name} runs nowhere yet: {seat.why}")
        if seat.node == node:
            raise ConfigError(f"{name} is on {node} already")
        others = frozenset(room.name for room in head.rooms() if room.name != node)
        if not head.placer().best(seat.wish(others)):
            raise ConfigError(f"{node} has no room for {name}; move something away, or join with more --rows")
        head.queue[name] = (node, "it was asked for")

    def balance(self) -> list[str]:
        """Make it even; returns the sources that will move."""
        head = self._head
        still = [seat for seat in head.seats.values() if not seat.adding and seat.name not in head.moves]
        steps = balance(head.rooms(), [(seat.wish(), seat.node) for seat in still if seat.node])
        head.queue |= {step.stream: (step.target, step.why) for step in steps}
        return [step.stream for step in steps]

    def drain(self, node: str, back: bool) -> list[str]:
        """A node takes no more streams, and its own go elsewhere; back: it takes some again. Returns those on it."""
        head = self._head
        head.node(node)
        (head.draining.discard if back else head.draining.add)(node)
        head.changed = True
        head.keep()
        return [seat.name for seat in head.seats.values() if seat.node == node]

    def report(self) -> Report:
        """The nodes and the streams."""
        head = self._head
        seated: defaultdict[str | None, list[Seat]] = defaultdict(list)
        for seat in head.seats.values():
            seated[seat.node].append(seat)
        nodes = [self._node(facts, seated[facts.name]) for facts in head.pulse.facts()]
        nodes += [
            NodeReport(name=name, state="refused", rows=0, taken=0, decoding=0, near={}, labels="", version="", why=why)
            for name, why in self._refused.items()
            if name not in seated or not head.pulse.alive(name)
        ]
        streams = [seat.report() for seat in head.seats.values()]
        moving = sorted({*head.moves, *head.queue})
        return Report(labels=self._labels, nodes=nodes, streams=streams, moving=moving, hub=dict(self._stats()))

    def _node(self, facts: NodeFacts, seats: list[Seat]) -> NodeReport:
        status, _ = self._head.pulse.status(facts.name)
        state: NodeState = "up"
        why = status.happened if status else ""
        if not self._head.pulse.alive(facts.name):
            state, why = "away", self._head.pulse.why(facts.name)
        elif not self._head.pulse.answers(facts.name):
            state, why = "expected", "the head has just started and looks for it"
        elif status and status.leaving:
            state, why = "leaving", "`streamer fleet leave` was called there"
        elif facts.name in self._head.draining:
            state, why = "draining", "`streamer fleet drain` was called; --back ends it"
        return NodeReport(
            name=facts.name,
            state=state,
            rows=facts.rows,
            taken=sum(seat.source.rows for seat in seats),
            decoding=round(sum(seat.cost_ms for seat in seats) / facts.cores / 1000, 2),
            near=facts.near,
            labels=facts.labels,
            version=facts.version,
            why=why,
        )
