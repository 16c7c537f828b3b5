"""Where each source of the fleet is, what the head must not forget, and what it tells of all that."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

import msgspec

from streamer.fleet.config import FleetSource
from streamer.fleet.facts import Assignment, NodeFacts, Running
from streamer.fleet.placing import UNMEASURED_MS, Wish

_REACHED = ("online", "degraded", "stalled", "ended")  # of a source, see messages of kind `status`
NodeState = Literal["up", "away", "expected", "draining", "leaving", "refused"]


class Kept(msgspec.Struct, kw_only=True):
    """What a head writes down before it does it. assignments: of sources, by their names; added: by command."""

    reign: int = 0
    nodes: list[NodeFacts] = []
    assignments: list[Assignment] = []
    added: list[dict[str, Any]] = []
    draining: list[str] = []


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node in the reply to `status`.

    state     up; expected: by a head that has just started; away: it does not answer; draining, leaving: it takes no
              streams; refused: it wanted to join and could not
    taken     rows with a stream
    decoding  how much of the time of its cores goes into decoding, 0 to 1
    why       of a state other than up; of up: what happened to its run last. In a sentence
    """

    name: str
    state: NodeState
    rows: int
    taken: int
    decoding: float
    near: dict[str, str]
    labels: str
    version: str
    why: str = ""


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """A source in the reply to `status`. node: null while it waits; why: it is there, or waits, in a sentence."""

    stream: str
    node: str | None
    term: int
    source: str
    detail: str
    cost_ms: float
    why: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to `status`. moving: streams that are on their way, or will be; hub: what it has passed on."""

    labels: str
    nodes: list[NodeReport]
    streams: list[StreamReport]
    moving: list[str]
    hub: dict[str, Any] = {}


def written(source: FleetSource) -> dict[str, Any]:
    """A source as it would be written, with its secrets."""
    return source.model_dump(mode="json", context={"secrets": True}, exclude_defaults=True, exclude_none=True)


class Seat:
    """A source and where it is.

    assignment     its owner; None: it waits. Its `stream` is the source's name
    adding         the node's answer that is to come
    acknowledged_s when that came (monotonic)
    tried          nodes that could not have it, and when; refusal: what the last of them said
    told_waiting   the last reason to wait that the hub was told
    """

    def __init__(self, source: FleetSource) -> None:
        self.source = source
        self.name = source.called
        self.streams = source.streams
        self.assignment: Assignment | None = None
        self.adding: Future[None] | None = None
        self.acknowledged_s = 0.0
        self.tried: dict[str, float] = {}
        self.refusal = ""
        self.told_waiting = ""
        self.why = "it has not been placed yet"
        self.state, self.detail = "connecting", ""
        self.cost_ms = UNMEASURED_MS
        self.reached = False
        self.reached_s = 0.0

    @property
    def node(self) -> str | None:
        """Who has it."""
        return self.assignment.node if self.assignment else None

    @property
    def fields(self) -> dict[str, Any]:
        """The source as a node is given it: with its name, and with its secrets."""
        fields = written(self.source)
        fields.pop("near", None)
        return {**fields, "name": self.name}

    def wish(self, avoid: frozenset[str] = frozenset()) -> Wish:
        """What it needs."""
        return Wish(self.name, self.source.rows, self.source.near, self.cost_ms, avoid)

    def sit(self, assignment: Assignment, why: str, now: float) -> None:
        """A node has it from now on."""
        self.assignment, self.why, self.told_waiting = assignment, why, ""
        self.acknowledged_s, self.reached, self.reached_s = now, False, now
        self.state, self.detail = "connecting", ""

    def stand(self, why: str) -> None:
        """No node has it."""
        self.assignment, self.adding, self.why = None, None, why
        self.state, self.detail = "connecting", ""

    def see(self, running: Sequence[Running], now: float) -> None:
        """How its streams are."""
        self.state, self.detail = running[0].source, running[0].detail
        if any(one.source in _REACHED for one in running):
            self.reached, self.reached_s = True, now
            self.tried.clear()
        if cost := max(one.cost_ms for one in running):
            self.cost_ms = round(cost, -1) or 10.0  # in steps, so that it is not news all the time

    def report(self) -> StreamReport:
        """For `status`."""
        return StreamReport(
            stream=self.name,
            node=self.node,
            term=self.assignment.term if self.assignment else 0,
            source=self.state,
            detail=self.detail,
            cost_ms=self.cost_ms,
            why=self.why,
        )
