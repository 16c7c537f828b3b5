"""What the head does with daemons of Ray that have joined, without Ray: actors that answer when they are told to."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from streamer.errors import StreamerError
from streamer.fleet.agent import Reign, Welcome
from streamer.fleet.cluster import RayNodes, _Machine
from streamer.fleet.facts import NodeFacts


class Actor:
    """What it was asked, and the answers that it gives, by verb: what the agent says, and its error."""

    def __init__(self, **answers: tuple[str, Any]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self.do = SimpleNamespace(remote=self._do)

    def _do(self, reign: Reign, verb: str, *what: Any) -> SimpleNamespace:
        self.asked.append(verb)
        done: Future[Any] = Future()
        done.set_result(self._answers.get(verb, ("", None)))
        return SimpleNamespace(future=lambda: done)


def begin() -> None:
    raise StreamerError("there is no Ray")


def head() -> RayNodes:
    nodes = RayNodes(Reign(1, "a"), Welcome(version="1", key="k", run={}), begin)
    nodes.close()
    return nodes


def facts(name: str, address: str) -> tuple[str, NodeFacts]:
    return "", NodeFacts(name=name, labels=f"tcp://{address}:1", rows=2)


def join(nodes: RayNodes, number: str, name: str, address: str, actor: Actor) -> _Machine:
    machine = nodes._machines[number] = _Machine(name, address, actor)
    for _ in range(4):
        machine.due = 0.0
        nodes._speak(machine)
    return machine


def test_a_ray_that_fails_is_no_wrong_configuration_so_that_a_service_is_started_again() -> None:
    failed = head().failed
    assert failed is not None
    assert (str(failed), failed.exit_code) == ("there is no Ray", 1)


def test_a_second_machine_of_one_name_is_refused_and_the_first_goes_on() -> None:
    nodes = head()
    join(nodes, "1", "n1", "127.0.0.2", Actor(facts=facts("n1", "127.0.0.2")))
    twin = Actor(facts=facts("n1", "127.0.0.8"))
    join(nodes, "2", "n1", "127.0.0.8", twin)
    assert twin.asked == ["refuse"]
    assert nodes.refused == {"n1": "a node called n1 is in the fleet already, at 127.0.0.2; give another --name"}
    assert [one.labels for one in nodes.nodes()] == ["tcp://127.0.0.2:1"]


def test_a_new_daemon_of_a_machine_takes_the_place_of_the_one_before() -> None:
    nodes = head()
    join(nodes, "1", "n1", "127.0.0.2", Actor(facts=facts("n1", "127.0.0.2")))
    join(nodes, "2", "n1", "127.0.0.2", Actor(facts=facts("n1", "127.0.0.2")))
    assert nodes.refused == {}
    assert nodes._by_name["n1"] is nodes._machines["2"]


def test_a_node_of_another_version_is_refused_and_a_head_that_nodes_do_not_obey_must_end() -> None:
    nodes = head()
    why = "it runs action-streamer 1 and the head 2; install the head's version there"
    join(nodes, "1", "old", "127.0.0.2", Actor(welcome=(why, None)))
    assert nodes.refused == {"old": why}
    assert nodes.deposed == ""
    join(nodes, "2", "n2", "127.0.0.3", Actor(welcome=("node n2 obeys a head that started later", None)))
    assert nodes.deposed == "node n2 obeys a head that started later"
