"""What goes out at the one address, whatever nodes, heads and the network do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import StreamerError
from streamer.fleet.facts import Assignment
from streamer.labels.messages import EventMessage, GapMessage, Message, StatusMessage, decode, encode

from .acting import Fleet, Node, check


def kinds(messages: Iterable[Message]) -> list[str]:
    return [message.type if isinstance(message, EventMessage) else message.kind for message in messages]


def test_messages_of_the_owner_pass_byte_for_byte_but_who_publishes_them_and_their_number() -> None:
    fleet = Fleet()
    fleet.assign("door", "a", 5)
    sent = [fleet.nodes["a"].score("door") for _ in range(3)]
    for number, message in enumerate(sent):
        payload = encode(message)
        ((name, out),) = fleet.relay.hear(b"act/1/door/score/", payload)
        assert name == b"act/1/door/score/"
        assert out.partition(b'"model"')[2] == payload.partition(b'"model"')[2]
        passed = decode(name, out)
        assert (passed.session, passed.seq, passed.node, passed.term) == ("session1", number, "a", 5)


def test_fields_of_a_later_version_and_another_order_of_fields_pass() -> None:
    fleet = Fleet()
    fleet.assign("door", "a", 5)
    plain = encode(fleet.nodes["a"].score("door"))
    later = b'{"later":[1],' + plain[1:]
    ((name, out),) = fleet.relay.hear(b"act/1/door/score/", later)
    assert b'"later":[1]' in out
    assert decode(name, out).term == 5
    ((_, other),) = fleet.relay.hear(
        b"act/1/door/pose/", plain.replace(b"score", b"pose", 1).replace(b'"seq":0', b'"seq":9')
    )
    assert other.startswith(b'{"kind":"pose"')


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b'{"kind":"score"}', b'{"kind":"score","session":"s","epoch":0,"seq":0}']
)
def test_what_is_no_message_is_refused_and_nothing_goes_out(payload: bytes) -> None:
    fleet = Fleet()
    fleet.assign("door", "a", 5)
    with pytest.raises(StreamerError):
        fleet.relay.hear(b"act/1/door/score/", payload)
    with pytest.raises(StreamerError):
        fleet.relay.hear(b"weather/", encode(fleet.nodes["a"].score("door")))


def test_a_node_that_dies_has_its_event_ended_and_the_next_one_is_heard() -> None:
    fleet = Fleet()
    a, b = fleet.nodes["a"], fleet.nodes["b"]
    fleet.assign("door", "a", 1)
    fleet.hear(a.status("door"), *a.start("door"))
    told = fleet.take(fleet.relay.down("a", "a does not answer"))
    assert kinds(told) == ["end", "state", "gap", "status"]
    end, _, gap, status = told
    assert isinstance(end, EventMessage)
    assert isinstance(gap, GapMessage)
    assert isinstance(status, StatusMessage)
    assert (end.reason, gap.reason, gap.epoch) == ("gap", "moved", 1)
    assert (status.source, status.detail, status.captured) == ("connecting", "a does not answer", 5)
    assert fleet.hear(a.score("door"), *a.end("door")) == []  # it was only cut off, and speaks still
    assert kinds(fleet.take(fleet.relay.repeat())) == ["status"]
    assert kinds(fleet.assign("door", "b", 2)) == ["status"]
    assert fleet.hear(a.score("door")) == []
    (start, _) = fleet.hear(*b.start("door"))
    assert (start.node, start.term, start.epoch) == ("b", 2, 1)
    assert fleet.take(fleet.relay.repeat()) == []
    assert fleet.relay.fenced == 4
    fleet.take(fleet.relay.end())
    check(fleet.told)


def test_a_warm_move_ends_nothing_and_the_event_keeps_its_id() -> None:
    fleet = Fleet()
    a, b = fleet.nodes["a"], fleet.nodes["b"]
    fleet.assign("door", "a", 1)
    (start, _) = fleet.hear(*a.start("door"))
    assert fleet.hear(*a.give("door")) == []
    assert fleet.take(fleet.relay.carry(Assignment("door", "b", 2))) == []
    taken = fleet.hear(*b.take("door", 2, a))
    assert kinds(taken) == ["status", "state"]
    assert {(message.node, message.term, message.epoch) for message in taken} == {("b", 2, 0)}
    (end, _) = fleet.hear(*b.end("door"))
    assert isinstance(start, EventMessage)
    assert isinstance(end, EventMessage)
    assert (end.id, end.t_start_us) == (start.id, start.t_start_us)
    check(fleet.told)


def test_what_the_old_owner_said_last_is_heard_until_the_new_one_speaks() -> None:
    fleet = Fleet()
    a, b = fleet.nodes["a"], fleet.nodes["b"]
    fleet.assign("door", "a", 1)
    fleet.hear(a.score("door"))
    fleet.take(fleet.relay.carry(Assignment("door", "b", 2)))
    late, later = a.score("door"), a.score("door")
    assert [(m.node, m.term) for m in fleet.hear(late)] == [("a", 1)]
    b.terms["door"] = 2
    assert [(m.node, m.term) for m in fleet.hear(b.score("door"))] == [("b", 2)]
    assert fleet.hear(later) == []


def test_a_warm_move_that_fails_ends_the_event() -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    fleet.assign("door", "a", 1)
    fleet.hear(*a.start("door"), *a.give("door"))
    fleet.take(fleet.relay.carry(Assignment("door", "b", 2)))
    assert kinds(fleet.take(fleet.relay.down("b", "b is gone"))) == ["end", "state", "gap", "status"]
    fleet.take(fleet.relay.end())
    check(fleet.told)


@pytest.mark.parametrize("tell", [lambda a: a.update("door"), lambda a: [a.state("door")], lambda a: a.end("door")])
def test_an_event_whose_start_was_lost_is_started_by_what_tells_of_it(tell: Callable[[Node], list[Message]]) -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    fleet.assign("door", "a", 1)
    a.start("door")
    assert kinds(fleet.hear(*tell(a)))[0] == "start"
    fleet.hear(*a.end("door"))
    fleet.take(fleet.relay.end())
    check(fleet.told)


def test_an_event_whose_end_was_lost_is_ended_by_the_next_label_in_force() -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    fleet.assign("door", "a", 1)
    fleet.hear(*a.start("door"))
    a.end("door")
    assert kinds(fleet.hear(a.state("door"))) == ["end", "state"]
    assert fleet.relay.lost == 1  # the state right after the end; that of the end will be known by the next event
    fleet.hear(*a.start("door"))
    a.end("door")
    fleet.clock.us += 1
    a.start("door", "clap")
    assert kinds(fleet.hear(a.state("door"))) == ["end", "start", "state"]
    fleet.take(fleet.relay.end())
    check(fleet.told)


def test_a_hub_that_comes_back_goes_on_with_what_is_open_and_ends_what_is_not() -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    for stream in ("door", "yard", "gone"):
        fleet.assign(stream, "a", 1)
        fleet.hear(*a.start(stream))
    a.end("yard")  # while the head is away
    fleet.begin()
    for stream in ("door", "yard"):
        fleet.take(fleet.relay.assign(Assignment(stream, "a", 1)))
    assert kinds(fleet.hear(a.state("door"))) == ["state"]
    assert kinds(fleet.hear(a.state("yard"))) == ["end", "state"]
    assert kinds(fleet.take(fleet.relay.settle())) == ["end", "state"]
    assert kinds(fleet.hear(*a.end("door"))) == ["end", "state"]
    assert fleet.relay.open == 0
    check(fleet.told)


def test_a_run_that_is_started_anew_in_its_term_ends_what_it_had_open() -> None:
    fleet = Fleet()
    fleet.assign("door", "a", 1)
    fleet.hear(*fleet.nodes["a"].start("door"))
    again = Node("a", fleet.clock)
    again.terms["door"] = 1
    assert kinds(fleet.hear(again.status("door"))) == ["end", "state", "gap", "status", "status"]
    assert fleet.hear(again.score("door"))[0].epoch == 1
    fleet.take(fleet.relay.end())
    check(fleet.told)


def test_a_stream_that_its_node_stopped_is_connecting_and_one_that_is_removed_has_stopped() -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    fleet.assign("door", "a", 1)
    told = fleet.hear(*a.start("door"), *a.end("door", "shutdown"), a.status("door", "stopped"))
    assert isinstance(told[-1], StatusMessage)
    assert (told[-1].source, told[-1].detail) == ("connecting", "a has stopped it")
    assert [m.source for m in fleet.take(fleet.relay.remove("door")) if isinstance(m, StatusMessage)] == ["stopped"]
    assert fleet.hear(a.score("door")) == []
    fleet.assign("door", "a", 2)
    assert fleet.hear(a.score("door"))[0].epoch > told[-1].epoch
    check(fleet.told)


def test_repeats_for_other_readers_of_a_node_do_not_go_out_again() -> None:
    fleet = Fleet()
    a = fleet.nodes["a"]
    fleet.assign("door", "a", 1)
    state = a.state("door")
    assert len(fleet.hear(state)) == 1
    assert fleet.hear(state) == []


STREAMS = st.sampled_from(["door", "yard"])
NODES = st.sampled_from(["a", "b", "c"])
SAID = st.sampled_from(["start", "update", "end", "state", "score", "gap", "status", "stopped", "other"])
ACTS = st.one_of(
    st.tuples(st.just("say"), STREAMS, NODES, SAID, st.booleans()),
    st.tuples(st.just("say"), STREAMS, NODES, SAID, st.booleans()),
    st.tuples(st.just("late"), st.integers(0, 20)),
    st.tuples(st.just("assign"), STREAMS, NODES),
    st.tuples(st.just("move"), STREAMS, NODES, st.booleans()),
    st.tuples(st.just("down"), NODES),
    st.tuples(st.just("restart"), NODES),
    st.tuples(st.just("remove"), STREAMS),
    st.tuples(st.just("waits"), STREAMS),
    st.tuples(st.just("head")),
    st.tuples(st.just("settle")),
)


def test_with_names_that_are_always_new_nothing_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.fleet.relay.MOST_GONE", 5)
    fleet = Fleet()
    for number in range(20):
        fleet.assign(f"cam{number}", "a", number + 1)
        fleet.hear(fleet.nodes["a"].score(f"cam{number}"))
        fleet.take(fleet.relay.remove(f"cam{number}"))
    relay = fleet.relay
    assert max(len(kept) for kept in vars(relay).values() if isinstance(kept, dict)) == 5
    check(fleet.told)


class Trouble(Fleet):
    """Does what the acts say; the newest term of a stream has one owner, as the head sees to."""

    def __init__(self) -> None:
        super().__init__()
        self.term = 0
        self.owners: dict[str, tuple[str, int]] = {}
        self.held_back: list[Message] = []  # on their way, from nodes that may be dead by now

    def act(self, what: str, *arguments: Any) -> None:
        self.clock.us += 1000
        getattr(self, f"do_{what}")(*arguments)

    def do_say(self, stream: str, name: str, what: str, arrives: bool) -> None:
        node = self.nodes[name]
        if stream not in node.terms:
            return
        if what == "other":
            said = [*node.end(stream, "switch"), *node.start(stream, "clap")]
        elif what == "stopped":
            said = [*node.end(stream, "shutdown"), node.status(stream, "stopped")]
        else:
            one = getattr(node, what)(stream)
            said = one if isinstance(one, list) else [one]
        if arrives:
            self.hear(*said)
        else:
            self.held_back += said

    def do_late(self, index: int) -> None:
        if self.held_back:
            self.hear(self.held_back.pop(index % len(self.held_back)))

    def do_give(self, stream: str, name: str) -> None:
        self.term += 1
        self.owners[stream] = name, self.term
        self.assign(stream, name, self.term)

    def do_move(self, stream: str, name: str, arrives: bool) -> None:
        old = self.nodes[self.owners.get(stream, (name, 0))[0]]
        if old.name == name or stream not in old.terms:
            return
        self.term += 1
        self.hear(*old.give(stream))
        self.owners[stream] = name, self.term
        self.take(self.relay.carry(Assignment(stream, name, self.term)))
        self.nodes[name].open.pop(stream, None)
        taken = self.nodes[name].take(stream, self.term, old)
        self.hear(*taken[not arrives :])

    def do_down(self, name: str) -> None:
        self.take(self.relay.down(name, "gone"))

    def do_restart(self, name: str) -> None:
        terms = self.nodes[name].terms
        self.nodes[name] = Node(name, self.clock)
        self.nodes[name].terms = terms

    def do_remove(self, stream: str) -> None:
        self.owners.pop(stream, None)
        self.take(self.relay.remove(stream))

    def do_wait(self, stream: str) -> None:
        self.take(self.relay.waits(stream, "no room"))

    def do_head(self) -> None:
        self.begin()
        for stream, (name, term) in self.owners.items():
            self.take(self.relay.assign(Assignment(stream, name, term)))

    def do_settle(self) -> None:
        self.take(self.relay.settle())


STREAMS, NODES = st.sampled_from(["door", "yard"]), st.sampled_from(["a", "b", "c"])
SAID = st.sampled_from(["start", "update", "end", "state", "score", "gap", "status", "stopped", "other"])
SAYING = st.tuples(st.just("say"), STREAMS, NODES, SAID, st.booleans())
ACTS = st.one_of(
    SAYING,
    SAYING,
    st.tuples(st.just("late"), st.integers(0, 20)),
    st.tuples(st.just("give"), STREAMS, NODES),
    st.tuples(st.just("move"), STREAMS, NODES, st.booleans()),
    st.tuples(st.sampled_from(["down", "restart"]), NODES),
    st.tuples(st.sampled_from(["remove", "wait"]), STREAMS),
    st.tuples(st.sampled_from(["head", "settle"])),
)


@given(st.lists(ACTS, max_size=60))
def test_no_interleaving_gives_two_owners_that_are_heard_or_a_start_without_an_end(acts: list[tuple[Any, ...]]) -> None:
    fleet = Trouble()
    for act in acts:
        fleet.act(*act)
    fleet.take(fleet.relay.end())
    check(fleet.told)
