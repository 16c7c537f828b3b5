from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.fleet.facts import Assignment
from streamer.fleet.turns import AT_ONCE, InTurn

from .fakes import FakeNodes


class SlowNodes(FakeNodes):
    """Nodes that answer when the test says so. begun: what they were asked, in order, and its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[str, Future[Any]]] = []

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        return self._begin(f"{assignment.node} {assignment.stream}")

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        return self._begin(f"{node} {stream} {'gives' if state is None else 'takes'}")

    def _begin(self, what: str) -> Future[Any]:
        self.begun.append((what, Future()))
        return self.begun[-1][1]

    @property
    def asked(self) -> list[str]:
        return [what for what, _ in self.begun]


def test_a_node_opens_few_sources_at_a_time_and_the_next_when_one_is_done_or_has_failed() -> None:
    nodes = SlowNodes()
    turns = InTurn(nodes)
    done = [turns.add(Assignment(f"cam{number}", "a", number), {}) for number in range(6)]
    turns.add(Assignment("other", "b", 9), {})
    assert nodes.asked == ["a cam0", "a cam1", "a cam2", "b other"]
    nodes.begun[1][1].set_exception(ConfigError("there is no such file"))
    with pytest.raises(ConfigError, match="no such file"):
        done[1].result(0)
    assert nodes.asked[4:] == ["a cam3"]
    assert not done[0].done()
    nodes.begun[0][1].set_result(None)
    assert done[0].result(0) is None
    assert nodes.asked[5:] == ["a cam4"]


def test_a_state_is_given_at_once_and_taken_in_turn() -> None:
    nodes = SlowNodes()
    turns = InTurn(nodes)
    for number in range(AT_ONCE):
        turns.add(Assignment(f"cam{number}", "a", number), {})
    taken = turns.state("a", "door", b"state")
    turns.state("a", "gate")
    assert nodes.asked[AT_ONCE:] == ["a gate gives"]
    nodes.begun[0][1].set_result(None)
    nodes.begun[-1][1].set_result(b"")
    assert taken.result(0) == b""


def test_what_is_done_at_once_is_done_for_as_many_as_there_are_and_from_any_thread() -> None:
    nodes = FakeNodes()
    node = nodes.join("a", rows=10_000)
    turns = InTurn(nodes)
    node.state = "hung"
    count = 3000

    def ask(part: int) -> None:
        for number in range(part, count, 3):
            turns.add(Assignment(f"cam{number}", "a", 1), {"name": f"cam{number}"})

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(node.asked) == AT_ONCE
    node.return_()
    assert len(node.streams) == count
