"""Which node gets which stream. Pure: the same nodes and streams always give the same answer, and its reason.

Of the nodes with rows free, those whose processors can decode it come first; of these, those that are near as the
stream asks (a preference: elsewhere is better than nowhere); of these, the least loaded; of these, the first by name.
How loaded a node is: the larger of its part of rows and its part of decoding time that are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.text import counted

UNMEASURED_MS = 100.0  # decoding a stream for a second, until it was measured: about 1080p at 25 frames/s
WORTH = 1e-6  # a move must lower the higher load of the two by more
PASSES = 4  # over all streams, at most; each finds less than the one before
MOST_NAMED = 5  # nodes in a sentence
_MOST_LOAD, _A_MATCH, _OVERLOADED = 1e3, 1e4, 1e9  # what counts first, in one number

Values = npt.NDArray[np.float64]
"""One number a node."""


@dataclass(frozen=True, slots=True)
class Room:
    """A node that takes streams. rows: how many; cores: that decode; near: what it is close to."""

    name: str
    rows: int
    cores: int = 1
    near: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """A source that needs a node. rows: its streams; near: what it would be close to; cost_ms: decoding, for a second;
    avoid: nodes that cannot have it.
    """

    name: str
    rows: int = 1
    near: Mapping[str, str] = field(default_factory=dict)
    cost_ms: float = UNMEASURED_MS
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """A node, or None, and why, in a sentence."""

    node: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """A move of `balance`."""

    stream: str
    source: str
    target: str
    why: str


class Placer:
    """The nodes and what they have taken; `best` finds a node, `put` and `take` fill and empty them.

    seats: streams and the nodes that have them already; those on other nodes are passed over.
    """

    def __init__(self, rooms: Iterable[Room], seats: Iterable[tuple[Wish, str]] = ()) -> None:
        self.rooms = sorted(rooms, key=lambda room: room.name)
        self._index = {room.name: index for index, room in enumerate(self.rooms)}
        self._rows = np.array([room.rows for room in self.rooms], dtype=float)
        self._decodes_ms = np.array([room.cores * 1000.0 for room in self.rooms])
        taken, costs_ms = [0.0] * len(self.rooms), [0.0] * len(self.rooms)
        for wish, node in seats:
            if (index := self._index.get(node)) is not None:
                taken[index] += wish.rows
                costs_ms[index] += wish.cost_ms
        self._taken, self._costs_ms = np.array(taken), np.array(costs_ms)
        self._loads: list[float] = np.maximum(self._taken / self._rows, self._costs_ms / self._decodes_ms).tolist()
        self._most_rows = float(self._rows.max(initial=1))
        self._most_ms = float(self._decodes_ms.max(initial=1))
        self._least: tuple[float, float] | None = None  # parts of rows and of decoding that any node has taken
        self._nearnesses: dict[frozenset[tuple[str, str]], Values] = {}

    def put(self, wish: Wish, node: str) -> None:
        """A node has a stream."""
        self._fill(node, wish.rows, wish.cost_ms)

    def take(self, wish: Wish, node: str) -> None:
        """A node has a stream no more."""
        self._fill(node, -wish.rows, -wish.cost_ms)

    def load(self, node: str) -> float:
        """How loaded a node is; 1: full."""
        return self._loads[self._index[node]]

    def matches(self, wish: Wish, node: str) -> int:
        """How many of the things that a stream would be close to a node is close to."""
        near = self.rooms[self._index[node]].near
        return sum(near.get(key) == value for key, value in wish.near.items())

    def best(self, wish: Wish) -> str | None:
        """The node for a stream; None: none has room."""
        if not self.rooms:
            return None
        taken = self._taken + wish.rows
        loads = np.maximum(taken / self._rows, (self._costs_ms + wish.cost_ms) / self._decodes_ms)
        order = np.minimum(loads, _MOST_LOAD) + self._nearness(wish)
        order += _OVERLOADED * (loads > 1)
        order[taken > self._rows] = np.inf
        for name in wish.avoid:
            if name in self._index:
                order[self._index[name]] = np.inf
        first = int(order.argmin())
        return self.rooms[first].name if np.isfinite(order[first]) else None

    def choose(self, wish: Wish) -> Choice:
        """The node for a stream, and why."""
        node = self.best(wish)
        return Choice(node, self.why(wish, node) if node else self._full(wish))

    def could_be_better(self, wish: Wish, node: str) -> bool:
        """Whether a look for another node than its own is worth it; False is sure."""
        if wish.near and self.matches(wish, node) < len(wish.near):
            return True
        if self._least is None:
            self._least = _least(self._taken / self._rows), _least(self._costs_ms / self._decodes_ms)
        rows, decoding = self._least
        return max(rows + wish.rows / self._most_rows, decoding + wish.cost_ms / self._most_ms) < self.load(node)

    def why(self, wish: Wish, node: str) -> str:
        """Why a node was best for a stream that it does not have yet."""
        index = self._index[node]
        room = self.rooms[index]
        told = []
        if wish.near:
            kept = [f"{key}={value}" for key, value in wish.near.items() if room.near.get(key) == value]
            missed = [f"{key}={value}" for key, value in wish.near.items() if room.near.get(key) != value]
            told += [f"near {' and '.join(kept)}"] if kept else []
            told += [f"no node with room is near {' and '.join(missed)}{' as well' if kept else ''}"] if missed else []
        rows = f"{self._taken[index] + wish.rows:g} of {room.rows} rows"
        decoding = f"{(self._costs_ms[index] + wish.cost_ms) / self._decodes_ms[index]:.0%} of its decoding"
        able = int(np.count_nonzero(self._taken + wish.rows <= self._rows))
        told.append(f"then it has {rows} and {decoding}, the least loaded of {counted(able, 'node')} with room")
        return "; ".join(told)

    def _fill(self, node: str, rows: int, cost_ms: float) -> None:
        if (index := self._index.get(node)) is not None:
            self._taken[index] += rows
            self._costs_ms[index] += cost_ms
            rows, decoding = self._taken[index] / self._rows[index], self._costs_ms[index] / self._decodes_ms[index]
            self._loads[index], self._least = float(max(rows, decoding)), None

    def _nearness(self, wish: Wish) -> Values:
        """What `best` adds for each node: the less, the more of what a stream would be close to it is close to."""
        wanted = frozenset(wish.near.items())
        if wanted not in self._nearnesses:
            matches = [-_A_MATCH * len(wanted & room.near.items()) for room in self.rooms]
            self._nearnesses[wanted] = np.array(matches, dtype=float)
        return self._nearnesses[wanted]

    def _full(self, wish: Wish) -> str:
        if not self.rooms:
            return "the fleet has no node that takes streams; `streamer fleet join` adds one"
        avoided = sorted(name for name in wish.avoid if name in self._index)
        need = f"{wish.rows} rows on one node" if wish.rows > 1 else "a row"
        taken = f"{self._taken.sum():g} of {self._rows.sum():g} on {counted(len(self.rooms), 'node')} are taken"
        if not avoided:
            return f"no node has {need} free: {taken}"
        return f"it could not be had from {', '.join(avoided[:MOST_NAMED])}, and no other node has {need} free: {taken}"


def _least(values: Values) -> float:
    return float(values[values.argmin()])  # ten times as fast as min()


def balance(rooms: Iterable[Room], seats: Sequence[tuple[Wish, str]]) -> list[Step]:
    """The moves that make it even, in their order: streams go where they would be near, and from full nodes to others.

    seats: each stream and its node. What would be as good elsewhere stays, so a second balance moves nothing.
    """
    placer = Placer(rooms, seats)
    where = {wish.name: node for wish, node in seats}
    whys: dict[str, str] = {}
    known = {room.name for room in placer.rooms}
    ordered = sorted((wish for wish, node in seats if node in known), key=lambda wish: wish.name)
    for _ in range(PASSES):
        moved = False
        for wish in sorted(ordered, key=lambda wish: -placer.load(where[wish.name])):
            node = where[wish.name]
            if not placer.could_be_better(wish, node):
                continue
            before = placer.load(node)
            placer.take(wish, node)
            target = placer.best(wish) or node
            why = placer.why(wish, target)
            placer.put(wish, target)
            nearer = placer.matches(wish, target) - placer.matches(wish, node)
            if target != node and (nearer > 0 or (nearer == 0 and placer.load(target) < before - WORTH)):
                where[wish.name], whys[wish.name], moved = target, why, True
            else:
                placer.take(wish, target)
                placer.put(wish, node)
        if not moved:
            break
    return [
        Step(wish.name, node, where[wish.name], whys[wish.name])
        for wish, node in sorted(seats, key=lambda seat: seat[0].name)
        if where[wish.name] != node
    ]
