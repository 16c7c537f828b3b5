"""A stream goes from node to node: through a real hub, between two real runs; and what may go wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.fleet.facts import Assignment, NodeFacts, NodeStatus, Running
from streamer.fleet.hub import Hub
from streamer.fleet.moving import ANSWER_S, READY_S, Move
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import ANY_PORT, moments
from tests.streamer.pipeline.test_moving import Running as Run

from .acting import check

OLD, NEW = Assignment("door", "a", 1), Assignment("door", "b", 2)


class Nodes:
    """Two runs, each asked in a thread of its own by its control socket, as an agent does."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self.runs = runs
        self.pool = ThreadPoolExecutor(4)

    def nodes(self) -> list[NodeFacts]:
        return []

    def status(self, node: str) -> Future[NodeStatus]:
        def ask() -> NodeStatus:
            keys = ("stream", "term", "source", "detail")
            told = self.runs[node].ask("status")["streams"]
            running = [Running(**{key: one[key] for key in keys}) for one in told]
            return NodeStatus(node=node, session="", running=running)

        return self.pool.submit(ask)

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        run = self.runs[assignment.node]
        return self.pool.submit(lambda: run.ask("add", source=dict(source), term=assignment.term, held=held))

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        def ask() -> None:
            with suppress(ConfigError):  # it is not there
                self.runs[node].ask("remove", stream=stream, term=term)

        return self.pool.submit(ask)

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        def ask() -> bytes:
            if state is None:
                path = Path(self.runs[node].ask("state", stream=stream)["file"])
                content = path.read_bytes()
                path.unlink()
                return content
            path = self.runs[node].folder / "taken.state"
            path.write_bytes(state)
            self.runs[node].ask("state", stream=stream, file=str(path))
            return b""

        return self.pool.submit(ask)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        runs = {}
        for name in ("a", "b"):
            runs[name] = Run("--backend", "scripted", "--set", f"node={name}", "--set", "max_gap=600")
            runs[name].folder = tmp_path
            stack.callback(runs[name].close)
        nodes = Nodes(runs)
        stack.callback(nodes.pool.shutdown)
        yield nodes


def test_a_reader_of_the_hub_sees_a_moved_stream_go_on_without_an_end_or_a_gap(two: Nodes) -> None:
    source = {"uri": "pattern://swipe?size=64x48", "name": "door"}
    hub = Hub(ANY_PORT)
    reader = Subscriber(hub.address, streams=["door"], timeout_s=0.02)
    told: list[Message] = []

    def until(done: Callable[[], Any]) -> None:
        for _ in moments(90):
            with suppress(TimeoutError):
                told.append(next(reader))
            if done():
                return

    def is_open() -> bool:
        events = [m for m in told if isinstance(m, EventMessage)]
        return bool(events) and events[-1].type != "end"

    try:
        hub.assign(OLD)
        for name, run in two.runs.items():
            hub.node_up(NodeFacts(name=name, labels=run.labels, rows=4))
        two.add(OLD, source).result()
        until(lambda: is_open() and isinstance(told[-1], ScoreMessage))
        move = Move(two, hub, source, OLD, NEW)
        until(lambda: move.poll(time.monotonic()) == "done")
        assert move.taken
        until(lambda: told[-1].node == "b" and not is_open())
        until(lambda: told[-1].node == "b" and is_open())
        hub.remove("door")
        until(lambda: getattr(told[-1], "source", "") == "stopped")
    finally:
        reader.close()
        hub.close()
    check(told)
    assert not [m for m in told if isinstance(m, GapMessage)]
    assert {m.epoch for m in told} == {0}
    nodes = [str(m.node) for m in told]
    assert nodes == sorted(nodes)  # a, and then b
    ends = {m.id: (m.node, m.reason) for m in told if isinstance(m, EventMessage) and m.type == "end"}
    assert {reason for _, reason in ends.values()} <= {"score", "switch", "shutdown"}


class Told(Nodes):
    """Nodes that answer what the test says; what they were asked is in `asked`."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def _answer(self, verb: str, *about: Any) -> Future[Any]:
        self.asked.append((verb, *about))
        done: Future[Any] = Future()
        answer = self.answers.get(verb, b"state" if verb == "give" else None)
        if isinstance(answer, Exception):
            done.set_exception(answer)
        elif answer != "silence":
            done.set_result(answer)
        return done

    def status(self, node: str) -> Future[NodeStatus]:
        return self._answer("status", node)

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        return self._answer("add", assignment.node, held)

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        return self._answer("remove", node, term)

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        return self._answer("give" if state is None else "take", node)

    def carry(self, new: Assignment) -> None:
        self.asked.append(("carry", new.term))


def source_is(state: str, detail: str = "") -> NodeStatus:
    return NodeStatus(node="b", session="", running=[Running(stream="door", term=2, source=state, detail=detail)])


def moved(nodes: Told, source: Mapping[str, Any] | None = None) -> tuple[Move, str]:
    """The move, polled every 50 ms of a clock of its own, and what became of it."""
    move = Move(nodes, nodes, source or {"uri": "0", "name": "door"}, OLD, NEW)
    for turn in range(2000):
        if told := move.poll(turn * 0.05):
            return move, told
    raise AssertionError("it never ended")


def test_the_state_is_given_only_when_the_new_node_is_ready_and_the_hub_knows_before_it_speaks() -> None:
    nodes = Told(status=source_is("online"))
    move, told = moved(nodes)
    assert (told, move.taken) == ("done", True)
    expected = [("add", "b", True), ("status", "b"), ("give", "a"), ("carry", 2), ("take", "b"), ("remove", "a", 1)]
    assert nodes.asked == expected


@pytest.mark.parametrize(
    ("answers", "sentence", "taken"),
    [
        ({"add": ConfigError("b is full")}, "b is full", False),
        ({"add": "silence"}, f"a node did not answer within {READY_S:g} s", False),
        (
            {"status": source_is("connecting", "no route to host")},
            "b was not ready for it within 20 s: no route",
            False,
        ),
        ({"status": NodeStatus(node="b", session="")}, "it has no such stream", False),
        ({"status": source_is("online"), "give": "silence"}, f"a node did not answer within {ANSWER_S:g} s", True),
        ({"status": source_is("online"), "take": OSError()}, "OSError", True),
    ],
)
def test_a_move_that_fails_says_why_and_undoes_what_can_be_undone(
    answers: dict[str, Any], sentence: str, taken: bool
) -> None:
    nodes = Told(**answers)
    move, told = moved(nodes)
    assert sentence in told
    assert move.taken == taken
    assert (("remove", "b", 2) in nodes.asked) == (not taken)  # afterwards the head begins it anew
    assert ("remove", "a", 1) not in nodes.asked


def test_a_source_with_views_is_not_moved_with_its_memory() -> None:
    nodes = Told()
    _, told = moved(nodes, {"uri": "0", "name": "door", "views": {"bed": [0, 0, 1, 1]}})
    assert told == "a source with views is not moved with what it remembers"
    assert nodes.asked == [("remove", "b", 2)]
