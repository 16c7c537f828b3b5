"""Streams that go from node to node because somebody asks for it: moved, drained, balanced."""

from __future__ import annotations

from typing import Any

from streamer.fleet.facts import Assignment
from streamer.fleet.orders import parse

from .fakes import Fleet


class Carried:
    """A warm move that ends when it is told to."""

    def __init__(self, fleet: Fleet, old: Assignment, new: Assignment) -> None:
        self.fleet, self.old, self.new, self.taken, self.ends = fleet, old, new, False, "done"

    def poll(self, now_s: float) -> str | None:
        nodes = self.fleet.nodes.all
        if self.ends == "done":
            nodes[self.old.node].streams.pop(self.old.stream)
            nodes[self.new.node].streams[self.new.stream] = self.new.term
            self.fleet.hub.assign(self.new)
        return self.ends


def carrying(*sources: str, ends: str = "done", taken: bool = False) -> Fleet:
    def move(source: dict[str, Any], old: Assignment, new: Assignment) -> Carried:
        carried = Carried(fleet, old, new)
        carried.ends, carried.taken = ends, taken
        return carried

    fleet = Fleet(*sources, move=move)
    return fleet


def test_a_node_is_drained_and_takes_streams_again_afterwards() -> None:
    fleet = carrying("one", "two", "three")
    fleet.nodes.join("a")
    fleet.pass_(2)
    fleet.nodes.join("b")
    assert fleet.orders.act(parse(b'{"command": "drain", "node": "a"}')) == {
        "node": "a",
        "streams": ["one", "three", "two"],
    }
    fleet.pass_(5)
    assert set(fleet.where().values()) == {"b"}
    assert fleet.orders.report().nodes[0].state == "draining"
    fleet.orders.act(parse(b'{"command": "drain", "node": "a", "back": true}'))
    fleet.orders.act(parse(b'{"command": "move", "stream": "one", "node": "a"}'))
    fleet.pass_(2)
    assert fleet.where()["one"] == "a"


def test_a_node_that_leaves_is_emptied_and_forgotten_when_it_is_gone() -> None:
    fleet = carrying("one")
    leaving = fleet.nodes.join("a")
    fleet.pass_(2)
    leaving.leaving = True
    fleet.pass_(2)
    assert fleet.where() == {"one": "a"}  # nobody else has room
    assert "stays" in fleet.head.seats["one"].why
    fleet.nodes.join("b")
    fleet.pass_(3)
    assert fleet.where() == {"one": "b"}
    leaving.die()
    fleet.pass_(4)
    assert [node.name for node in fleet.orders.report().nodes] == ["b"]


def failing(why: str, taken: bool) -> tuple[Fleet, Assignment]:
    """A fleet in which the only stream shall go from a to b, which fails; and where it was."""
    fleet = carrying("one", ends=why, taken=taken)
    fleet.nodes.join("a")
    fleet.pass_(2)
    before = fleet.hub.owners["one"]
    fleet.nodes.join("b")
    fleet.pass_(1)
    fleet.orders.move("one", "b")
    fleet.pass_(3)
    return fleet, before


def test_a_drained_node_that_has_left_takes_streams_when_it_joins_again() -> None:
    fleet = carrying("one")
    node = fleet.nodes.join("a")
    fleet.pass_(2)
    fleet.nodes.join("b")
    fleet.orders.drain("a", back=False)
    node.leaving = True
    fleet.pass_(3)
    node.die()
    fleet.pass_(4)
    node.leaving = False
    node.return_()
    fleet.pass_(2)
    fleet.orders.move("one", "a")
    fleet.pass_(2)
    assert fleet.where() == {"one": "a"}


def test_a_move_that_fails_before_the_state_was_given_leaves_the_stream_where_it_was() -> None:
    fleet, before = failing("b does not open it", taken=False)
    assert fleet.hub.owners["one"] == before
    assert fleet.runs() == {"one": ["a"]}
    assert "b does not open it" in fleet.head.seats["one"].why


def test_a_move_that_fails_after_the_state_was_given_begins_the_stream_anew() -> None:
    fleet, before = failing("b is gone", taken=True)
    after = fleet.hub.owners["one"]
    assert after.term > before.term
    assert fleet.runs() == {"one": [after.node]}


def test_a_new_node_moves_nothing_and_balance_does() -> None:
    fleet = carrying("one", "two", "three", "four")
    fleet.nodes.join("a")
    fleet.pass_(2)
    fleet.nodes.join("b")
    fleet.pass_(10)
    assert set(fleet.where().values()) == {"a"}
    assert len(fleet.orders.act(parse(b'{"command": "balance"}'))["moves"]) == 2
    fleet.pass_(3)
    assert sorted(str(node) for node in fleet.where().values()) == ["a", "a", "b", "b"]
    assert fleet.orders.balance() == []
