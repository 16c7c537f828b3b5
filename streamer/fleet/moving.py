"""A warm move: a stream goes from one node to another together with its temporal state.

The new node opens the camera and keeps its frames; the old one gives the state, and stops; the hub lets the new one
speak; the new one takes the state, and goes on with the frames that came meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from streamer.errors import ConfigError
from streamer.fleet.facts import Assignment, Nodes
from streamer.text import redact

READY_S = 20.0  # for the new node to open the camera, and to have a row of the engine for it
ANSWER_S = 10.0  # for each answer
LOOK_S = 0.1  # how often the new node is asked whether it is ready

Steps = Generator[None, None, Any]


class Carrier(Protocol):
    """Who lets another node speak for a stream without an end: the hub."""

    def carry(self, new: Assignment) -> None:
        """The new owner goes on with what is open."""


class Move:
    """One stream on its way. `poll` does what can be done now, and never waits.

    nodes   how they are reached
    source  as in the configuration
    taken   the node before has given the state away
    """

    def __init__(self, nodes: Nodes, hub: Carrier, source: Mapping[str, Any], old: Assignment, new: Assignment) -> None:
        self.taken = False
        self._nodes, self._hub, self._source, self._old, self._new = nodes, hub, source, old, new
        self._now_s = 0.0
        self._steps = self._go()

    def poll(self, now_s: float) -> str | None:
        """None: it goes on; "done"; or a sentence that says why it failed. now_s: by the monotonic clock."""
        self._now_s = now_s
        try:
            next(self._steps)
        except StopIteration:
            return "done"
        except Exception as error:  # a node may fail in any way; the head goes on
            if not self.taken:
                self._nodes.remove(self._new.node, self._new.stream, self._new.term)  # the old one goes on
            return redact(str(error)) or type(error).__name__
        return None

    def _go(self) -> Steps:
        old, new, nodes = self._old, self._new, self._nodes
        if self._source.get("views"):
            raise ConfigError("a source with views is not moved with what it remembers")
        yield from self._answer(nodes.add(new, self._source, held=True), READY_S)
        yield from self._ready()
        given = nodes.state(old.node, old.stream)
        self.taken = True  # from here on the old one may have stopped, whatever it answers
        state = yield from self._answer(given, ANSWER_S)
        self._hub.carry(new)
        yield from self._answer(nodes.state(new.node, new.stream, state), ANSWER_S)
        nodes.remove(old.node, old.stream, old.term)

    def _ready(self) -> Steps:
        """Until the new node has frames of the stream, and a row for it."""
        ends_s = self._now_s + READY_S
        while True:
            status = yield from self._answer(self._nodes.status(self._new.node), ANSWER_S)
            here = next((one for one in status.running if one.stream == self._new.stream), None)
            if here and here.source in ("online", "degraded"):
                return
            if self._now_s > ends_s:
                why = (here.detail or here.source) if here else "it has no such stream"
                raise ConfigError(f"{self._new.node} was not ready for it within {READY_S:g} s: {why}")
            yield from self._wait(LOOK_S)

    def _wait(self, seconds: float) -> Steps:
        ends_s = self._now_s + seconds
        while self._now_s < ends_s:
            yield

    def _answer(self, asked: Future[Any], within_s: float) -> Steps:
        """The result of what was asked, as soon as it is there. Raises its error."""
        ends_s = self._now_s + within_s
        while not asked.done():
            if self._now_s > ends_s:
                raise ConfigError(f"a node did not answer within {within_s:g} s")
            yield
        return asked.result()
