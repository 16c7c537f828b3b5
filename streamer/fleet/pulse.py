"""Which nodes live: each is asked twice a second, and one that leaves four questions unanswered is taken for dead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from streamer.fleet.facts import NodeFacts, Nodes, NodeStatus
from streamer.text import redact

PING_S = 0.5
MISSES = 4
RETURN_S = 30.0  # how long a head that starts waits for nodes that the one before had
SPEAKS_S = 10.0  # it is there if its labels came within this time, twice that of statuses, though it cannot be asked


@dataclass(slots=True)
class _Beat:
    """What is known of one node.

    facts     that it told last; up: those with which it was said to have come, None: it was not
    asked     its answer that is to come; since: when it was asked (monotonic)
    status    its last answer; status_s: when that was asked for
    expected  a head that starts takes it for alive until then, without an answer
    """

    facts: NodeFacts
    up: NodeFacts | None = None
    alive: bool = False
    asked: Future[NodeStatus] | None = None
    since: float = 0.0
    missed: int = 0
    status: NodeStatus | None = None
    status_s: float = 0.0
    expected: float = 0.0
    why: str = "it has not answered yet"


class Pulse:
    """Asks the nodes, never waits.

    nodes  how they are reached
    heard  when a node's labels were last heard (monotonic); None: never
    """

    def __init__(self, nodes: Nodes, heard: Callable[[str], float | None]) -> None:
        self._nodes, self._heard = nodes, heard
        self._beats: dict[str, _Beat] = {}
        self._due = 0.0

    def expect(self, facts: NodeFacts, now: float) -> None:
        """A node of the head before: it is taken for alive, and has time to be found again."""
        self._beats[facts.name] = _Beat(facts, facts, alive=True, expected=now + RETURN_S)

    def look(self, now: float) -> tuple[list[NodeFacts], list[tuple[str, str]], bool]:
        """The nodes that have come, or have come anew; those that are gone, and why; whether there are new answers."""
        for beat in self._beats.values():
            self._take(beat)
        if now < self._due:
            return [], [], False
        self._due = now + PING_S
        here = {facts.name: facts for facts in self._nodes.nodes()}
        for name in here.keys() - self._beats.keys():
            self._beats[name] = _Beat(here[name])
        up = [beat.facts for name, beat in self._beats.items() if self._ask(beat, here.get(name), now)]
        down = [(name, beat.why) for name, beat in self._beats.items() if beat.alive and self._is_gone(beat, now)]
        for name, _ in down:
            self._beats[name].alive, self._beats[name].up = False, None
        return up, down, True

    def alive(self, name: str) -> bool:
        """Whether a node is taken for alive."""
        return name in self._beats and self._beats[name].alive

    def answers(self, name: str) -> bool:
        """Whether a node is alive and was asked and has answered, so that it can be given something."""
        beat = self._beats.get(name)
        return beat is not None and beat.alive and not beat.expected and beat.missed < MISSES

    def facts(self) -> list[NodeFacts]:
        """Every node that was ever here, by name."""
        return [self._beats[name].facts for name in sorted(self._beats)]

    def status(self, name: str) -> tuple[NodeStatus | None, float]:
        """A node's last answer, and when it was asked for."""
        beat = self._beats[name]
        return beat.status, beat.status_s

    def why(self, name: str) -> str:
        """Why a node is not alive, in a sentence."""
        return self._beats[name].why

    def forget(self, name: str) -> None:
        """A node has left."""
        self._beats.pop(name, None)

    def _ask(self, beat: _Beat, facts: NodeFacts | None, now: float) -> bool:
        """Ask a node again; whether it has come, or has come anew. facts: of now; None: it is in no list any more."""
        if facts is None:
            beat.missed += 1
            beat.why = "it is gone from Ray's cluster"
            return False
        beat.facts = facts
        came = False
        if beat.status is not None and beat.missed == 0 and beat.status.session == facts.session:
            came, beat.up = beat.up != facts, facts
            beat.alive, beat.expected = True, 0.0
        if beat.asked is None:
            beat.asked, beat.since = self._nodes.status(facts.name), now
        else:
            beat.missed += 1
        return came

    @staticmethod
    def _take(beat: _Beat) -> None:
        """Take the answer, if it has come."""
        if beat.asked is None or not beat.asked.done():
            return
        error = beat.asked.exception()
        if error is None:
            beat.status, beat.status_s, beat.missed = beat.asked.result(), beat.since, 0
        else:
            beat.missed += 1
            beat.why = redact(str(error))
        beat.asked = None

    def _is_gone(self, beat: _Beat, now: float) -> bool:
        if beat.expected:
            spoke = self._heard(beat.facts.name)
            if now < (beat.expected if spoke is None else spoke + SPEAKS_S):
                return False
            beat.why = f"it was not found again within {RETURN_S:g} s after the head had started"
            if spoke is not None:
                beat.why = f"its labels came when the head had started, and then for {SPEAKS_S:g} s they did not"
            beat.expected = 0.0
            return True
        if beat.missed < MISSES:
            return False
        if beat.asked is not None:
            beat.why = f"it has not answered for {MISSES * PING_S:g} s"
        return True
