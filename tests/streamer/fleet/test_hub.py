"""The fleet's one address, with real sockets: nodes that publish, a hub, readers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from streamer.errors import ConfigError
from streamer.fleet.facts import Assignment, NodeFacts
from streamer.fleet.hub import Hub
from streamer.fleet.journal import Journal
from streamer.labels.events import Event, State
from streamer.labels.messages import EventMessage, Message, MessageBuilder, ScoreMessage, Stamp, StatusMessage
from streamer.labels.publisher import Publisher, wall_us
from streamer.labels.subscriber import Subscriber
from tests.conftest import WaitFor
from tests.streamer.labels.key_rings import Keys
from tests.streamer.labels.peers import ANY_PORT, START, WINDOW, moments

from .acting import check


class Node:
    """A publisher as a run of a fleet has it, in this thread; a term of each stream."""

    def __init__(self, name: str, keys: Keys | None = None) -> None:
        curve = keys.config if keys else None
        self.publisher = Publisher(ANY_PORT, "net@1234", "stream", curve=curve, node=name)
        server_key = None if keys is None else (keys.folder / "server.key").read_text().split('"')[1]
        self.facts = NodeFacts(name=name, labels=self.publisher.address, server_key=server_key, rows=8)

    def say(self, stream: str, term: int, *what: str) -> None:
        build, stamp = self.publisher.build, Stamp(0, True, wall_us(), wall_us(), term)
        for one in what:
            match one:
                case "start":
                    self.publisher.send(build.event(stream, stamp, START))
                case "end":
                    end = Event("end", START.label, 1, 0.1, 0.9, START.t_start_us, wall_us(), "score")
                    self.publisher.send(build.event(stream, stamp, end))
                case "score":
                    self.publisher.send(build.score(stream, stamp, [("wave", 0.9)], WINDOW))
                case "none":
                    self.publisher.send(build.state(stream, stamp, State()))
                case "wave":
                    state = State(START.label, START.label_id, 0.9, START.t_start_us)
                    self.publisher.send(build.state(stream, stamp, state))
                case source:
                    self.publisher.send(build.status(stream, stamp, source))  # type: ignore[arg-type]


class Scene:
    """A hub, nodes and a reader of the hub."""

    def __init__(self, hub: Hub, *nodes: Node) -> None:
        self.hub, self.nodes = hub, nodes
        self.reader = Subscriber(hub.address, timeout_s=0.01)
        self.told: list[Message] = []

    def until(self, done: Callable[[Message], bool]) -> Message:
        """The first message of this kind from now on; nodes answer subscriptions meanwhile."""
        for _ in moments():
            for node in self.nodes:
                node.publisher.poll()
            with suppress(TimeoutError):
                self.told.append(next(self.reader))
                if done(self.told[-1]):
                    return self.told[-1]
        raise AssertionError

    def joined(self, node: Node, stream: str, term: int) -> None:
        """Wait until what this node says of its stream comes through the hub."""
        node.say(stream, term, "connecting")
        self.until(
            lambda m: isinstance(m, StatusMessage) and (m.stream, m.node, m.term) == (stream, node.facts.name, term)
        )


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:

        def begin(*names: str) -> Scene:
            hub = Hub(ANY_PORT)
            stack.callback(hub.close)
            nodes = [Node(name) for name in names]
            for node in nodes:
                stack.callback(node.publisher.close)
                hub.node_up(node.facts)
            made = Scene(hub, *nodes)
            stack.callback(made.reader.close)
            return made

        yield begin


def test_readers_of_one_address_hear_all_nodes_and_late_ones_the_last_values(scene: Callable[..., Scene]) -> None:
    it = scene("north", "south")
    north, south = it.nodes
    for number, node in enumerate(it.nodes):
        it.hub.assign(Assignment(f"cam{number}", node.facts.name, 1))
        it.joined(node, f"cam{number}", 1)
    south.say("cam1", 1, "online", "none")
    it.until(lambda m: m.stream == "cam1" and m.kind == "state")
    with Subscriber(it.hub.address, streams=["cam1"], timeout_s=30) as late:
        kept = {next(late).kind for _ in range(2)}
    assert kept == {"state", "status"}
    assert it.hub.heard("north") is not None
    assert it.hub.heard("west") is None
    assert it.reader.missed == it.reader.invalid == 0
    del north


def test_a_node_that_goes_is_silenced_and_another_takes_over(scene: Callable[..., Scene]) -> None:
    it = scene("north", "south")
    north, south = it.nodes
    it.hub.assign(Assignment("door", "north", 1))
    it.joined(north, "door", 1)
    north.say("door", 1, "start", "wave")
    it.until(lambda m: isinstance(m, EventMessage))
    it.hub.node_down("north", "north does not answer")
    gone = it.until(lambda m: isinstance(m, StatusMessage))
    assert isinstance(gone, StatusMessage)
    assert (gone.source, gone.detail) == ("connecting", "north does not answer")
    it.hub.assign(Assignment("door", "south", 2))
    it.hub.node_up(north.facts)  # it comes back, and does not know yet
    north.say("door", 1, "score", "end", "none")
    it.joined(south, "door", 2)
    it.hub.remove("door")
    it.until(lambda m: isinstance(m, StatusMessage) and m.source == "stopped")
    check(it.told)
    assert not [m for m in it.told if isinstance(m, ScoreMessage)]
    assert [m.reason for m in it.told if isinstance(m, EventMessage) and m.type == "end"] == ["gap"]


def test_a_hub_that_is_closed_ends_what_is_open_and_tells_that_all_have_stopped(scene: Callable[..., Scene]) -> None:
    it = scene("north")
    it.hub.assign(Assignment("door", "north", 1))
    it.joined(it.nodes[0], "door", 1)
    it.nodes[0].say("door", 1, "start", "wave")
    it.until(lambda m: m.kind == "state")
    it.hub.close()
    it.until(lambda m: isinstance(m, StatusMessage) and m.source == "stopped")
    check(it.told)


def test_what_is_no_label_is_skipped_and_counted(scene: Callable[..., Scene], wait_for: WaitFor) -> None:
    it = scene("north")
    it.hub.assign(Assignment("door", "north", 1))
    it.joined(it.nodes[0], "door", 1)
    it.nodes[0].publisher.put(b"act/1/door/score/", b'{"kind":', keep=False)
    wait_for(lambda: it.hub.stats()["invalid"] == 1)
    it.joined(it.nodes[0], "door", 1)


HEAD = """
import json, sys
from pathlib import Path
import msgspec
from streamer.fleet.facts import Assignment, NodeFacts
from streamer.fleet.hub import Hub
address, journal, facts = sys.argv[1:]
hub = Hub(address, journal=Path(journal))
hub.assign(Assignment("door", "north", 1))
hub.assign(Assignment("yard", "north", 1))
hub.node_up(msgspec.json.decode(facts, type=NodeFacts))
print(json.dumps(hub.address), flush=True)
sys.stdin.read()
"""


class Head:
    """A process with a hub, which can be killed."""

    def __init__(self, address: str, journal: Path, node: Node) -> None:
        facts = json.dumps({"name": "north", "labels": node.facts.labels, "rows": 8})
        command = [sys.executable, "-c", HEAD, address, str(journal), facts]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.address: str = json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


def test_a_head_that_is_killed_and_comes_back_ends_what_ended_meanwhile_and_goes_on_with_the_rest(
    tmp_path: Path,
) -> None:
    node, journal = Node("north"), tmp_path / "open.jsonl"
    for stream in ("door", "yard"):
        node.say(stream, 1, "start", "wave")
    head = Head(ANY_PORT, journal, node)
    reader = Subscriber(head.address, kinds=["event", "state"], timeout_s=0.01)
    told: list[Message] = []

    def until(done: Callable[[], bool]) -> None:
        for _ in moments():
            node.publisher.poll()
            with suppress(TimeoutError):
                told.append(next(reader))
            if done():
                return

    def ends() -> list[EventMessage]:
        return [m for m in told if isinstance(m, EventMessage) and m.type == "end"]

    try:
        until(lambda: {m.stream for m in told} == {"door", "yard"})
        started = {json.loads(line)["id"] for line in journal.read_bytes().splitlines()}
        head.kill()
        node.say("yard", 1, "end", "none")  # nobody hears it
        head = Head(head.address, journal, node)
        until(lambda: len(ends()) == 1)
        node.say("door", 1, "end", "none")
        until(lambda: len(ends()) == 2)
        head.kill()
        node.say("door", 1, "wave")  # it begins while nobody hears, and no event is open in the journal
        head = Head(head.address, journal, node)
        until(lambda: isinstance(told[-1], EventMessage) and told[-1].type == "start")  # after its reader was back
    finally:
        head.kill()
        reader.close()
        node.publisher.close()
    assert [(m.stream, m.reason) for m in ends()] == [("yard", "gap"), ("door", "score")]
    assert {m.id for m in ends()} == started


def test_every_leg_that_other_machines_reach_must_encrypt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other machines reach tcp://0\.0\.0\.0:0, so it must encrypt; give keys"):
        Hub("tcp://0.0.0.0:0")
    hub = Hub(ANY_PORT)
    try:
        with pytest.raises(ConfigError, match=r"node far: other machines reach tcp://192\.0\.2\.1:5557"):
            hub.node_up(NodeFacts(name="far", labels="tcp://192.0.2.1:5557", rows=1))
        with pytest.raises(ConfigError, match="node far encrypts its labels; give the hub a key"):
            hub.node_up(NodeFacts(name="far", labels="tcp://192.0.2.1:5557", server_key="k" * 40, rows=1))
    finally:
        hub.close()
    assert list(tmp_path.iterdir()) == []


def test_labels_pass_encrypted_on_both_legs(tmp_path: Path) -> None:
    for name in ("head", "node"):
        (tmp_path / name).mkdir()
    head, keys = Keys(tmp_path / "head", "reader"), Keys(tmp_path / "node")
    shutil.copy(head.folder / "server.key", keys.authorized / "head.key")
    hub, node = Hub(ANY_PORT, head.config, key=head.config.secret_key_file), Node("north", keys)
    reader = Subscriber(hub.address, timeout_s=0.01, curve=head.curve("reader"))
    try:
        hub.assign(Assignment("door", "north", 1))
        hub.node_up(node.facts)
        for _ in moments():
            node.publisher.poll()
            node.say("door", 1, "score")
            with suppress(TimeoutError):
                assert next(reader).node == "north"
                break
    finally:
        reader.close()
        hub.close()
        node.publisher.close()


def test_a_journal_survives_a_line_that_was_written_half_and_keeps_only_what_is_open(tmp_path: Path) -> None:
    build = MessageBuilder("net@1234", "stream")
    stamp, path = Stamp(), tmp_path / "open.jsonl"
    journal = Journal(path)
    for stream in ("door", "yard"):
        journal.note(build.event(stream, stamp, START))
    end = Event("end", START.label, 1, 0.1, 0.9, START.t_start_us, wall_us(), "score")
    journal.note(build.event("yard", stamp, end))
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"kind":"event","stream":"hal')
    again = Journal(path)
    again.close()
    assert (journal.found, again.found) == (False, True)
    assert list(again.left) == ["door"]
    assert len(path.read_bytes().splitlines()) == 1
    with pytest.raises(ConfigError, match="open events cannot be kept there"):
        Journal(tmp_path / "none" / "open.jsonl")


def test_a_reader_that_stands_still_for_some_thousand_messages_loses_none(tmp_path: Path, wait_for: WaitFor) -> None:
    count = 5000
    hub = Hub(f"ipc://{tmp_path}/labels")
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.setsockopt(zmq.RCVHWM, 1)
        reader.setsockopt(zmq.RCVTIMEO, 30_000)
        reader.setsockopt_string(zmq.SUBSCRIBE, "act/1/")
        reader.connect(hub.address)
        wait_for(lambda: hub.stats()["subscriptions"] == 1)
        for number in range(count):
            hub.waits("door", f"for the {number}th time")
        told: list[dict[str, Any]] = []
        while len(told) < count and (not told or "4999" not in told[-1]["detail"]):
            message = json.loads(reader.recv_multipart()[1])
            told += [message] if message["kind"] == "status" else []
        assert [message["seq"] for message in told] == list(range(count))
    hub.close()
