"""What the head of a fleet and its nodes tell each other, and the five verbs that it is done with."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec


class Assignment(msgspec.Struct, frozen=True):
    """Who has a stream. term: grows with every assignment of a stream; only the highest one is heard."""

    stream: str
    node: str
    term: int


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node that has joined.

    labels      the address of its publisher, as the head reaches it
    server_key  the public key of that publisher, Z85; None: it does not encrypt
    rows        how many streams it takes
    cores       of its processor, which decode
    near        what it is close to, such as {"site": "north"}
    version     of this program
    session     of its run: another one has forgotten its streams
    """

    name: str
    labels: str
    server_key: str | None = None
    rows: int
    cores: int = 1
    near: dict[str, str] = {}
    version: str = ""
    session: str = ""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A stream on a node. source and detail: as in its status messages; cost_ms: decoding, for a second of video."""

    stream: str
    term: int
    source: str
    detail: str = ""
    captured: int = 0
    cost_ms: float = 0.0


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is. leaving: it takes no more streams, and waits until it has none; happened: to its run last, in a
    sentence.
    """

    node: str
    session: str
    leaving: bool = False
    happened: str = ""
    running: list[Running] = []


class Nodes(Protocol):
    """How the head reaches its nodes. All but `nodes` return at once; what cannot be done is the future's error."""

    def nodes(self) -> list[NodeFacts]:
        """Those that have joined; one that does not answer may still be among them."""

    def status(self, node: str) -> Future[NodeStatus]:
        """How a node is, and that it lives."""

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        """Begin a stream. held: its source is opened, and its first step waits for the state of another node."""

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        """End a stream, unless its term there is a newer one. No error if there is none."""

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        """Give the temporal state of a stream, which stops there without a word; or take it, for one that is held."""
