"""Slow verbs wait for their turn: a run opens few sources at a time, and refuses more."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any

from streamer.fleet.facts import Assignment, NodeFacts, Nodes, NodeStatus

AT_ONCE = 3  # of the four that a run takes; one is left for who else asks


class InTurn:
    """The five verbs; at each node at most AT_ONCE streams begin or take a state at a time, and others wait."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, deque[tuple[Callable[[], Future[Any]], Future[Any]]]] = defaultdict(deque)
        self._busy: Counter[str] = Counter()
        self._served: set[str] = set()  # nodes whose queue somebody works on

    def nodes(self) -> list[NodeFacts]:
        """Those that have joined."""
        return self._nodes.nodes()

    def status(self, node: str) -> Future[NodeStatus]:
        """How a node is."""
        return self._nodes.status(node)

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        """Begin a stream, in its turn."""
        return self._wait(assignment.node, partial(self._nodes.add, assignment, source, held))

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        """End a stream."""
        return self._nodes.remove(node, stream, term)

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        """Give the temporal state of a stream; or take it, in its turn."""
        ask = partial(self._nodes.state, node, stream, state)
        return ask() if state is None else self._wait(node, ask)

    def _wait(self, node: str, begin: Callable[[], Future[Any]]) -> Future[Any]:
        done: Future[Any] = Future()
        with self._lock:
            self._waiting[node].append((begin, done))
        self._serve(node)
        return done

    def _serve(self, node: str) -> None:
        """Begin what may begin now. What is done at once calls this again, which leaves it to the loop."""
        with self._lock:
            if node in self._served:
                return
            self._served.add(node)
        while True:
            with self._lock:
                if self._busy[node] >= AT_ONCE or not self._waiting[node]:
                    self._served.remove(node)
                    return
                self._busy[node] += 1
                begin, done = self._waiting[node].popleft()
            begin().add_done_callback(partial(self._settle, node, done))

    def _settle(self, node: str, done: Future[Any], told: Future[Any]) -> None:
        with self._lock:
            self._busy[node] -= 1
        with suppress(InvalidStateError):
            if error := told.exception():
                done.set_exception(error)
            else:
                done.set_result(told.result())
        self._serve(node)
