"""A fleet without machines: nodes that die, hang and come back when the test says so, and a clock that it turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from streamer.errors import ConfigError
from streamer.fleet.config import FleetSource
from streamer.fleet.facts import Assignment, NodeFacts, NodeStatus, Running
from streamer.fleet.head import Head, Mover
from streamer.fleet.orders import Orders
from streamer.fleet.seats import Kept

TURN_S = 0.25


class FakeNode:
    """A node. streams: their terms; state: up, hung (it answers when it is up again) or dead."""

    def __init__(self, facts: NodeFacts) -> None:
        self.facts, self.state, self.leaving, self.happened = facts, "up", False, ""
        self.streams: dict[str, int] = {}
        self.unreached: set[str] = set()
        self.refuses: set[str] = set()
        self.costs: dict[str, float] = {}
        self.lives = 0
        self.asked: list[tuple[Future[Any], Callable[[], Any]]] = []

    def die(self) -> None:
        """Its processes are gone, and what they had."""
        self.state = "dead"
        self.streams.clear()
        for done, _ in self.asked:
            done.set_exception(ConfigError(f"{self.facts.name} does not answer"))
        self.asked.clear()

    def return_(self) -> None:
        """It is back: with its streams if it only hung, with a new run if it was dead."""
        if self.state == "dead":
            self.lives += 1
            name = self.facts.name
            anew = {"session": f"{name}-{self.lives}", "labels": f"tcp://{name}:{1 + self.lives}"}
            self.facts = NodeFacts(**{**_fields(self.facts), **anew})
        self.state = "up"
        for done, answer in self.asked:  # it answers what it was asked while it hung
            done.set_result(answer())
        self.asked.clear()


class FakeNodes:
    """The five verbs."""

    def __init__(self) -> None:
        self.all: dict[str, FakeNode] = {}

    def join(self, name: str, rows: int = 4, **facts: Any) -> FakeNode:
        """One more machine."""
        labels = f"tcp://{name}:1"
        self.all[name] = FakeNode(
            NodeFacts(name=name, labels=labels, rows=rows, cores=64, session=f"{name}-0", **facts)
        )
        return self.all[name]

    def nodes(self) -> list[NodeFacts]:
        return [node.facts for node in self.all.values() if node.state != "dead"]

    def status(self, node: str) -> Future[NodeStatus]:
        one = self.all[node]

        def status() -> NodeStatus:
            running = [
                Running(
                    stream=stream,
                    term=term,
                    source="connecting" if stream in one.unreached else "online",
                    cost_ms=one.costs.get(stream, 0.0),
                )
                for stream, term in one.streams.items()
            ]
            told: dict[str, Any] = {"leaving": one.leaving, "happened": one.happened}
            return NodeStatus(node=node, session=one.facts.session, running=running, **told)

        return self._ask(node, status)

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        one, name = self.all[assignment.node], str(source["name"])

        def add() -> None:
            for stream in [f"{name}-{view}" for view in source.get("views", {})] or [name]:
                one.streams[stream] = max(assignment.term, one.streams.get(stream, 0))

        if name in one.refuses:
            done: Future[None] = Future()
            done.set_exception(ConfigError(f"{name}: there is no such file"))
            return done
        return self._ask(assignment.node, add)

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        def remove() -> None:
            if self.all[node].streams.get(stream, term + 1) <= term:
                del self.all[node].streams[stream]

        return self._ask(node, remove)

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        return self._ask(node, lambda: b"")

    def _ask(self, node: str, answer: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        if self.all[node].state == "up":
            done.set_result(answer())
        elif self.all[node].state == "dead":
            done.set_exception(ConfigError(f"{node} does not answer"))
        else:
            self.all[node].asked.append((done, answer))
        return done


class FakeHub:
    """What the hub was told. owners: the newest assignment of each stream; hears: whose labels come; listens: where it
    listens to which node.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.owners: dict[str, Assignment] = {}
        self.waiting: dict[str, str] = {}
        self.hears: dict[str, float] = {}
        self.listens: dict[str, str] = {}

    def node_up(self, facts: NodeFacts) -> None:
        self.listens[facts.name] = facts.labels
        self.told.append(("up", facts.name))

    def node_down(self, name: str, why: str) -> None:
        self.listens.pop(name, None)
        self.told.append(("down", name))

    def assign(self, assignment: Assignment) -> None:
        before = self.owners.get(assignment.stream)
        assert before is None or before.term < assignment.term or before == assignment
        self.owners[assignment.stream] = assignment
        self.waiting.pop(assignment.stream, None)
        self.told.append(("assign", assignment.stream, assignment.node))

    def remove(self, stream: str) -> None:
        self.owners.pop(stream, None)
        self.told.append(("remove", stream))

    def waits(self, stream: str, why: str) -> None:
        self.waiting[stream] = why

    def heard(self, node: str) -> float | None:
        return self.hears.get(node)


class Fleet:
    """A head with fakes around it, and time that passes when it is told to."""

    def __init__(self, *sources: str | dict[str, Any], move: Mover | None = None) -> None:
        self.nodes, self.move = FakeNodes(), move
        self.sources = [FleetSource.model_validate(one if isinstance(one, dict) else _source(one)) for one in sources]
        self.kept, self.now = Kept(reign=1), 100.0
        self.start()

    def start(self) -> None:
        """A head begins, with what the one before had written down."""
        self.hub = FakeHub()
        self.kept.reign += 1
        self.head = Head(self.nodes, self.hub, self.move, self._keep, self.kept, self.sources, self.now)
        self.orders = Orders(self.head, "tcp://hub:1", {}, {one.called for one in self.sources}, dict)

    def _keep(self, kept: Kept) -> None:
        self.kept = kept

    def pass_(self, seconds: float) -> None:
        """Time passes, and the head turns."""
        for _ in range(round(seconds / TURN_S)):
            self.now += TURN_S
            self.head.turn(self.now)

    def where(self) -> dict[str, str | None]:
        """Which node has which stream, as the head knows it."""
        return {name: seat.node for name, seat in self.head.seats.items()}

    def runs(self) -> dict[str, list[str]]:
        """Which nodes run a stream really, and are heard."""
        return {
            stream: [
                name
                for name, node in self.nodes.all.items()
                if node.streams.get(stream) == owner.term
                and owner.node == name
                and self.hub.listens.get(name) == node.facts.labels
            ]
            for stream, owner in self.hub.owners.items()
        }


def _source(name: str) -> dict[str, Any]:
    return {"uri": "pattern://swipe", "name": name}


def _fields(facts: NodeFacts) -> dict[str, Any]:
    return {field: getattr(facts, field) for field in facts.__struct_fields__}
