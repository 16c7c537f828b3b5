from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ConfigError, SourceError
from streamer.fleet.orders import parse

from .fakes import Fleet


def test_streams_are_given_to_nodes_and_the_hub_knows_before_the_node_does() -> None:
    fleet = Fleet("door", {"uri": "pattern://swipe", "name": "yard", "near": {"site": "north"}})
    fleet.nodes.join("a")
    fleet.nodes.join("b", near={"site": "north"})
    fleet.pass_(2)
    assert fleet.where() == {"door": "a", "yard": "b"}
    assert fleet.runs() == {"door": ["a"], "yard": ["b"]}
    assert [one for one in fleet.kept.assignments if one.stream == "door"] == [fleet.hub.owners["door"]]


def test_a_node_that_dies_is_noticed_within_three_seconds_and_its_streams_go_on_elsewhere() -> None:
    fleet = Fleet("door")
    fleet.nodes.join("a")
    fleet.nodes.join("b")
    fleet.pass_(2)
    before = fleet.hub.owners["door"]
    fleet.nodes.all["a"].die()
    fleet.pass_(3)
    assert ("down", "a") in fleet.hub.told
    assert fleet.runs() == {"door": ["b"]}
    assert fleet.hub.owners["door"].term > before.term


def test_a_node_that_hangs_is_given_up_and_what_it_still_runs_when_it_is_back_is_ended() -> None:
    fleet = Fleet("door")
    hung = fleet.nodes.join("a")
    fleet.nodes.join("b")
    fleet.pass_(2)
    hung.state = "hung"
    fleet.pass_(3)
    assert fleet.runs() == {"door": ["b"]}
    assert "door" in hung.streams
    hung.return_()
    fleet.pass_(2)
    assert hung.streams == {}
    assert fleet.where() == {"door": "b"}


def test_two_answers_that_are_late_cost_no_stream_its_place() -> None:
    fleet = Fleet("door")
    slow = fleet.nodes.join("a")
    fleet.nodes.join("b")
    fleet.pass_(2)
    for _ in range(5):
        slow.state = "hung"
        fleet.pass_(1)
        slow.return_()
        fleet.pass_(1)
    assert ("down", "a") not in fleet.hub.told
    assert fleet.where() == {"door": "a"}


def test_a_run_that_was_restarted_gets_its_streams_anew() -> None:
    fleet = Fleet("door")
    node = fleet.nodes.join("a")
    fleet.pass_(2)
    before = fleet.hub.owners["door"]
    node.streams.clear()
    node.happened = "the run hung"
    fleet.pass_(2)
    assert [(one.state, one.why) for one in fleet.orders.report().nodes] == [("up", "the run hung")]
    assert fleet.runs() == {"door": ["a"]}
    assert fleet.hub.owners["door"].term > before.term


@pytest.mark.parametrize("new_head", [False, True])
def test_a_node_that_dies_and_is_back_before_it_is_missed_is_listened_to_where_it_is_now(new_head: bool) -> None:
    fleet = Fleet("door")
    node = fleet.nodes.join("a")
    fleet.pass_(2)
    if new_head:
        fleet.start()
    node.die()
    fleet.pass_(0.5)
    node.return_()
    fleet.pass_(3)
    assert fleet.hub.listens == {"a": "tcp://a:2"}
    assert fleet.runs() == {"door": ["a"]}


def test_streams_wait_while_the_fleet_is_full_which_is_told_and_begin_when_a_node_joins() -> None:
    fleet = Fleet("door", "gate")
    fleet.nodes.join("a", rows=1)
    fleet.pass_(2)
    assert fleet.hub.waiting == {"gate": "no node has a row free: 1 of 1 on 1 node are taken"}
    fleet.nodes.join("b", rows=1)
    fleet.pass_(2)
    assert fleet.runs() == {"door": ["a"], "gate": ["b"]}
    assert fleet.hub.waiting == {}


def test_a_head_that_comes_back_finds_what_runs_and_touches_nothing() -> None:
    fleet = Fleet("door", "gate")
    nodes = [fleet.nodes.join("a"), fleet.nodes.join("b")]
    fleet.pass_(2)
    before = [dict(node.streams) for node in nodes]
    fleet.now += 90
    for node in nodes:
        node.state = "hung"  # they are joined again only after some seconds
    fleet.start()
    assert sorted(fleet.hub.owners) == ["door", "gate"]
    assert [what for what in fleet.hub.told if what[0] == "up"] == [("up", "a"), ("up", "b")]
    fleet.pass_(20)
    for node in nodes:
        node.return_()
    fleet.pass_(3)
    assert [dict(node.streams) for node in nodes] == before
    assert not [what for what in fleet.hub.told if what[0] == "down"]


def test_a_node_that_is_not_found_again_is_given_up_unless_its_labels_still_come() -> None:
    fleet = Fleet("door")
    node = fleet.nodes.join("a")
    fleet.pass_(2)
    node.state = "hung"
    fleet.start()
    for _ in range(60):
        fleet.hub.hears["a"] = fleet.now
        fleet.pass_(1)
    assert fleet.where() == {"door": "a"}
    fleet.nodes.join("b")
    fleet.pass_(13)
    assert fleet.runs() == {"door": ["b"]}


def test_a_node_whose_labels_stop_soon_after_a_head_has_started_is_not_waited_for_as_long() -> None:
    fleet = Fleet("door")
    fleet.nodes.join("a")
    fleet.nodes.join("b")
    fleet.pass_(2)
    fleet.nodes.all["a"].die()
    fleet.start()
    fleet.hub.hears["a"] = fleet.now
    fleet.pass_(9)
    assert fleet.where() == {"door": "a"}
    fleet.pass_(4)
    assert fleet.runs() == {"door": ["b"]}


def test_a_camera_that_a_node_does_not_reach_is_tried_from_others_and_stays_where_it_is_reached() -> None:
    fleet = Fleet("door")
    for name in "abc":
        fleet.nodes.join(name).unreached = {"door"} if name != "c" else set()
    fleet.pass_(40)
    assert fleet.runs() == {"door": ["c"]}
    settled = fleet.hub.owners["door"]
    fleet.pass_(60)
    assert fleet.hub.owners["door"] == settled


def test_a_source_that_a_node_refuses_goes_to_another_and_waits_when_all_do() -> None:
    fleet = Fleet("film")
    fleet.nodes.join("a").refuses = {"film"}
    fleet.pass_(3)
    told = "it could not be had from a, and no other node has a row free: 0 of 4 on 1 node are taken"
    assert fleet.hub.waiting["film"] == f"{told}; film: there is no such file"
    fleet.nodes.join("b")
    fleet.pass_(2)
    assert fleet.runs() == {"film": ["b"]}


def test_views_of_a_source_stay_together_and_are_each_told_to_the_hub() -> None:
    views = {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}
    fleet = Fleet({"uri": "pattern://swipe", "name": "hall", "views": views})
    fleet.nodes.join("a", rows=1)
    fleet.pass_(1)
    assert "2 rows on one node" in fleet.hub.waiting["hall-left"]
    fleet.nodes.join("b", rows=2)
    fleet.pass_(2)
    assert fleet.runs() == {"hall-left": ["b"], "hall-right": ["b"]}


def test_what_was_added_by_command_is_there_after_a_restart_and_what_was_removed_is_ended() -> None:
    fleet = Fleet("door")
    node = fleet.nodes.join("a")
    fleet.pass_(1)
    source = b'{"uri": "rtsp://user:secret@camera/1", "name": "gate", "near": {"site": "north"}}'
    assert fleet.orders.act(parse(b'{"command": "add", "source": %b}' % source)) == {"stream": "gate"}
    fleet.pass_(1)
    assert fleet.orders.act(parse(b'{"command": "remove", "stream": "door"}')) == {"stream": "door", "comes_back": True}
    fleet.pass_(1)
    assert list(node.streams) == ["gate"]
    assert ("remove", "door") in fleet.hub.told
    fleet.start()
    assert fleet.head.seats["gate"].fields == {"uri": "rtsp://user:secret@camera/1", "name": "gate"}
    assert fleet.where() == {"door": None, "gate": "a"}
    assert b"secret" not in repr(fleet.orders.report()).encode()


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"command": "remove", "stream": "dor"}, "no stream 'dor' in the fleet; did you mean 'door'?"),
        ({"command": "move", "stream": "door", "node": "bb"}, "no node 'bb' in the fleet; did you mean 'b'?"),
        ({"command": "move", "stream": "door", "node": "a"}, "door is on a already"),
        ({"command": "move", "stream": "door", "node": "b"}, "b has no room for door"),
        ({"command": "drain", "node": "c"}, "there is no node 'c'"),
        ({"command": "add", "source": {"uri": "0", "name": "door"}}, "two sources are called door"),
        ({"command": "add", "source": {"uri": "0", "nme": "x"}}, "did you mean sources.0.name"),
        ({"command": "add", "source": "pattern://swip"}, "there is no pattern 'swip'; the patterns are swipe, still"),
        ({"command": "add", "source": {"uri": "rstp://a/1"}}, "no source is called rstp://; did you mean rtsp://?"),
        ({"command": "add", "source": {f"k{n}": 1 for n in range(40)}}, "the request's source has 40 fields"),
        ({"command": "add", "source": {"uri": "x" * 3000}}, "uri: is too long; 2048 characters are allowed"),
        ({"command": "stop"}, "cannot read the request"),
        ({"command": "drain"}, "the commands are status, add, remove, move, balance, drain"),
    ],
)
def test_an_order_that_cannot_be_done_says_why_and_changes_nothing(order: dict[str, Any], error: str) -> None:
    import json

    fleet = Fleet("door", "wide")
    fleet.nodes.join("a", rows=1)
    fleet.nodes.join("b", rows=1)
    fleet.pass_(2)
    before = fleet.where()
    with pytest.raises((ConfigError, SourceError), match=re.escape(error)):
        fleet.orders.act(parse(json.dumps(order).encode()))
    fleet.pass_(1)
    assert fleet.where() == before


names = st.sampled_from(["a", "b", "c"])
troubles = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["die", "hang", "back", "restart"]), names),
        st.tuples(st.just("head"), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from(["0.25", "1", "3", "40"])),
    ),
    max_size=25,
)


@given(troubles)
@settings(max_examples=60, deadline=None)
def test_whatever_dies_and_comes_back_no_term_has_two_owners_and_every_stream_runs_once_in_the_end(
    what: list[tuple[str, str]],
) -> None:
    fleet = Fleet("one", "two", "three")
    given_: dict[tuple[str, int], str] = {}
    for name in "abc":
        fleet.nodes.join(name, rows=2)
    for trouble, about in [*what, ("wait", "3")]:
        node = fleet.nodes.all.get(about)
        if trouble == "head":
            fleet.start()
        elif trouble == "wait":
            fleet.pass_(float(about))
        elif node and trouble in ("die", "restart"):
            node.die()
            if trouble == "restart":
                node.return_()
        elif node and trouble == "hang":
            node.state = "hung" if node.state == "up" else node.state
        elif node and trouble == "back":
            node.return_()
        for stream, owner in fleet.hub.owners.items():
            assert given_.setdefault((stream, owner.term), owner.node) == owner.node
    for node in fleet.nodes.all.values():
        node.return_()
    fleet.pass_(60)
    assert all(len(runs) == 1 for runs in fleet.runs().values())
    assert sorted(fleet.hub.owners) == ["one", "three", "two"]
    everywhere = [stream for node in fleet.nodes.all.values() for stream in node.streams]
    assert sorted(everywhere) == ["one", "three", "two"]
