"""The head: brings what runs in line with what shall run. It never waits; `turn` is called again and again.

What it decides is written down before it is done (`keep`), so that a head that dies leaves nothing that its successor
does not know. It tells the hub of an assignment before it tells the node, so that nothing of a stream goes unheard.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from engines.errors import did_you_mean
from streamer.errors import ConfigError
from streamer.fleet.config import FleetSource, check_names, fleet_source
from streamer.fleet.facts import Assignment, NodeFacts, Nodes, Running
from streamer.fleet.placing import Placer, Room
from streamer.fleet.pulse import Pulse
from streamer.fleet.seats import Kept, Seat, written
from streamer.fleet.terms import Terms
from streamer.text import redact

MOST_MOVES = 4  # streams on their way from one node to another
REACH_S = 10.0  # a camera that gave nothing for so long is tried from another node
AWAY_S = 30.0  # and one that gave something before
TRIED_S = 300.0  # how long a node is passed over that could not have a source
MOST_TRIES = 8  # nodes that are passed over for one source; a camera that is broken shall not visit a thousand
LOOK_S = 5.0  # how often streams that wait are tried again although nothing has changed

log = logging.getLogger(__name__)


class Speaker(Protocol):
    """What the hub is told."""

    def node_up(self, facts: NodeFacts) -> None:
        """Listen to a node."""

    def node_down(self, name: str, why: str) -> None:
        """A node is gone: end what it left open."""

    def assign(self, assignment: Assignment) -> None:
        """A stream has a new owner, the only one that is heard."""

    def remove(self, stream: str) -> None:
        """A stream was taken out of the fleet."""

    def waits(self, stream: str, why: str) -> None:
        """A stream has no node."""

    def heard(self, node: str) -> float | None:
        """When a node's labels came last (monotonic); None: never."""


class Moving(Protocol):
    """A stream on its way, with its temporal state. taken: the node before has given it away."""

    taken: bool

    def poll(self, now_s: float) -> str | None:
        """None: it goes on; "done"; or a sentence that says why it failed."""


Mover = Callable[[dict[str, Any], Assignment, Assignment], Moving]
"""Begins a warm move of a source from one assignment to another."""


class Head:
    """The streams of a fleet and where they are. All of it belongs to one thread.

    nodes    how nodes are reached
    hub      who publishes
    move     begins a warm move; None: streams begin anew where they go, as those with views do
    keep     writes down what shall be remembered; called before anything is done about it
    kept     what the head before had written down
    sources  of the configuration; those that were added by command are among `kept`

    seats: the sources, by name; moves: those that are on their way; queue: those that will be; changed: it is worth
    a look whether streams that wait can be placed.
    """

    def __init__(
        self,
        nodes: Nodes,
        hub: Speaker,
        move: Mover | None,
        keep: Callable[[Kept], None],
        kept: Kept,
        sources: Iterable[FleetSource] = (),
        now: float = 0.0,
    ) -> None:
        self._nodes, self.hub, self._move, self._keep = nodes, hub, move, keep
        self._reign, self.terms = kept.reign, Terms(kept.reign)
        self.pulse = Pulse(nodes, hub.heard)
        self.draining = set(kept.draining)
        self.added = {source.called: source for source in map(fleet_source, kept.added)}
        wanted = {**self.added, **{source.called: source for source in sources}}
        check_names(wanted.values())
        self.seats = {name: Seat(source) for name, source in sorted(wanted.items())}
        self.moves: dict[str, tuple[Moving, Assignment, str]] = {}
        self.queue: dict[str, tuple[str | None, str]] = {}  # source -> node (None: the best), why
        self.changed, self._look_s = True, now
        for facts in kept.nodes:
            self.pulse.expect(facts, now)
        for assignment in kept.assignments:  # what runs goes on, and is heard at once
            self.terms.heard(assignment.term)
            if (seat := self.seats.get(assignment.stream)) and self.pulse.alive(assignment.node):
                seat.sit(assignment, "it was there when the head started", now)
                self._tell(seat)
        for facts in kept.nodes:  # now: what a node says at once is for streams that are known
            hub.node_up(facts)

    def turn(self, now: float) -> None:
        """Look at the nodes, and do what is due."""
        up, down, answered = self.pulse.look(now)
        for name, why in down:
            self._lose(name, why)
        for facts in up:
            log.info("node %s is here: %d rows, labels at %s", facts.name, facts.rows, facts.labels)
            self.hub.node_up(facts)
            self.changed = True
        self._take_answers(now)
        if answered:
            self._reconcile(now)
            self._empty_nodes()
        self._advance_moves(now)
        if self.changed or now >= self._look_s:
            self.changed, self._look_s = False, now + LOOK_S
            self._place(now)

    # What nodes say

    def _lose(self, name: str, why: str) -> None:
        """A node is gone: its streams are to be placed anew."""
        log.warning("node %s is gone: %s", name, why)
        self.hub.node_down(name, why)
        for seat in self.seats.values():
            if seat.node == name:
                seat.stand(f"{name} is gone: {why}")
        self.changed = True
        status, _ = self.pulse.status(name)
        if status and status.leaving:
            self.pulse.forget(name)
            self.draining.discard(name)

    def _take_answers(self, now: float) -> None:
        """What nodes say of the streams that they were given."""
        for seat in self.seats.values():
            if seat.adding is None or not seat.adding.done():
                continue
            error, seat.adding, seat.acknowledged_s = seat.adding.exception(), None, now
            if error is not None:
                self._leave(seat, redact(str(error)), now)

    def _leave(self, seat: Seat, why: str, now: float) -> None:
        """A node cannot have a source: another may."""
        log.warning("%s: not from %s: %s", seat.name, seat.node, why)
        if seat.assignment:
            seat.tried[seat.assignment.node], seat.refusal = now, why
            self.take_away(seat, seat.assignment)
        seat.stand(why)
        self.changed = True

    def take_away(self, seat: Seat, assignment: Assignment) -> None:
        """End what runs of a source by an assignment."""
        for stream in seat.streams:
            self._nodes.remove(assignment.node, stream, assignment.term)

    def _reconcile(self, now: float) -> None:
        """What runs on the nodes that answer, and what shall."""
        owners = {stream: seat for seat in self.seats.values() for stream in seat.streams}
        seated: defaultdict[str, list[Seat]] = defaultdict(list)
        for seat in self.seats.values():
            if seat.assignment and not seat.adding and seat.name not in self.moves:
                seated[seat.assignment.node].append(seat)
        for facts in self.pulse.facts():
            status, asked_s = self.pulse.status(facts.name)
            if status is None or not self.pulse.answers(facts.name):
                continue
            runs: defaultdict[str, list[Running]] = defaultdict(list)
            for running in status.running:
                self.terms.heard(running.term)
                owner = owners.get(running.stream)
                if owner and owner.assignment and (owner.node, owner.assignment.term) == (facts.name, running.term):
                    runs[owner.name].append(running)
                elif not (owner and owner.name in self.moves):
                    self._nodes.remove(facts.name, running.stream, running.term)
            for seat in seated[facts.name]:
                if seat.name in runs:
                    seat.see(runs[seat.name], now)
                    self._look_for_reach(seat, now)
                elif asked_s > seat.acknowledged_s:
                    log.warning("%s: %s has lost it; it begins anew", seat.name, facts.name)
                    seat.stand(f"{facts.name} had lost it")
                    self.changed = True

    def _look_for_reach(self, seat: Seat, now: float) -> None:
        """A camera that a node does not reach is tried from another one."""
        patience_s = AWAY_S if seat.reached else REACH_S
        if now - seat.reached_s < patience_s or seat.state not in ("connecting", "offline") or not seat.node:
            return
        avoid = frozenset({*seat.tried, seat.node})
        if len(seat.tried) < MOST_TRIES and self.placer().best(seat.wish(avoid)):
            self._leave(seat, f"{seat.node} did not reach it for {patience_s:g} s: {seat.detail}", now)

    # Where streams go

    def takes(self, name: str) -> bool:
        """Whether a node takes streams."""
        if name in self.draining or not self.pulse.answers(name):
            return False
        status, _ = self.pulse.status(name)
        return status is not None and not status.leaving

    def rooms(self) -> list[Room]:
        """The nodes that take streams."""
        return [Room(one.name, one.rows, one.cores, one.near) for one in self.pulse.facts() if self.takes(one.name)]

    def placer(self) -> Placer:
        """The nodes that take streams, with what they have and what is coming."""
        coming = [(self.seats[name].wish(), new.node) for name, (_, new, _) in self.moves.items()]
        return Placer(self.rooms(), [*((seat.wish(), seat.node) for seat in self.seats.values() if seat.node), *coming])

    def _place(self, now: float) -> None:
        """Give streams that wait to nodes: decided, written down, told to the hub, and then done."""
        waiting = [seat for seat in self.seats.values() if not seat.assignment and seat.name not in self.moves]
        if not waiting:
            return
        placer, placed = self.placer(), []
        for seat in waiting:
            seat.tried = {node: at for node, at in seat.tried.items() if now - at < TRIED_S}
            wish = seat.wish(frozenset(seat.tried))
            choice = placer.choose(wish)
            if choice.node:
                placer.put(wish, choice.node)
                seat.sit(Assignment(seat.name, choice.node, self.terms.next()), choice.why, now)
                placed.append(seat)
                continue
            why = f"{choice.why}; {seat.refusal}" if seat.tried else choice.why
            if why != seat.told_waiting:
                seat.told_waiting = seat.why = why
                for stream in seat.streams:
                    self.hub.waits(stream, why)
        if placed:
            self.keep()
        for seat in placed:
            log.info("%s: to %s: %s", seat.name, seat.node, seat.why)
            self._begin(seat)

    def _begin(self, seat: Seat) -> None:
        """Tell the hub and the node of an assignment that was written down."""
        assert seat.assignment
        self._tell(seat)
        seat.adding = self._nodes.add(seat.assignment, seat.fields)

    def _tell(self, seat: Seat) -> None:
        assert seat.assignment
        for stream in seat.streams:
            self.hub.assign(Assignment(stream, seat.assignment.node, seat.assignment.term))

    def _empty_nodes(self) -> None:
        """The streams of nodes that are drained, or want to leave, go elsewhere."""
        for name, seat in self.seats.items():
            if seat.node and name not in self.moves and name not in self.queue and not seat.adding:
                status, _ = self.pulse.status(seat.node)
                if seat.node in self.draining or (status and status.leaving):
                    self.queue[name] = (None, f"{seat.node} is being drained")

    def _advance_moves(self, now: float) -> None:
        """Look at the moves that go on, and begin the next ones."""
        for name, (moving, new, why) in list(self.moves.items()):
            told = moving.poll(now)
            if told is None:
                continue
            del self.moves[name]
            self._end_move(self.seats[name], moving, new, why if told == "done" else told, told == "done", now)
        for name in list(self.queue):
            if len(self.moves) >= MOST_MOVES:
                break
            self._begin_move(self.seats[name], *self.queue.pop(name), now)

    def _begin_move(self, seat: Seat, target: str | None, why: str, now: float) -> None:
        if not seat.assignment or seat.adding or not self.pulse.answers(seat.assignment.node):
            return
        wish = seat.wish(frozenset({*seat.tried, seat.assignment.node}))
        node = target if target and self.takes(target) else self.placer().best(wish)
        if not node or node == seat.assignment.node:
            seat.why = f"{why}, but it stays: {self.placer().choose(wish).why}"
            return
        new = Assignment(seat.name, node, self.terms.next())
        if self._move and not seat.source.views:
            self.moves[seat.name] = (self._move(seat.fields, seat.assignment, new), new, why)
            return
        old = seat.assignment
        seat.sit(new, why, now)
        self.keep()
        self.take_away(seat, old)
        self._begin(seat)

    def _end_move(self, seat: Seat, moving: Moving, new: Assignment, why: str, done: bool, now: float) -> None:
        """A move has ended. One that failed before the state was given away leaves the stream where it was, unless it
        must leave; else it begins anew elsewhere.
        """
        old = seat.assignment
        if done:
            log.info("%s: moved from %s to %s with what it remembers: %s", seat.name, seat.node, new.node, why)
            seat.sit(new, why, now)
            self.keep()
            return
        log.warning("%s: not moved to %s with what it remembers: %s", seat.name, new.node, why)
        if old and not moving.taken and self.takes(old.node):
            seat.why = f"it was not moved to {new.node}: {why}"
            return
        if old:
            self.take_away(seat, old)
        self.take_away(seat, new)
        seat.stand(why)
        self.changed = True

    # What is known

    def keep(self) -> None:
        """Write down what a head after this one must know."""
        self._keep(
            Kept(
                reign=self._reign,
                nodes=[facts for facts in self.pulse.facts() if self.pulse.alive(facts.name)],
                assignments=[seat.assignment for seat in self.seats.values() if seat.assignment],
                added=[written(source) for source in self.added.values()],
                draining=sorted(self.draining),
            )
        )

    def seat(self, name: str) -> Seat:
        """A source by name. Raises ConfigError."""
        if name not in self.seats:
            hint = did_you_mean(name, list(self.seats), f"there are {', '.join(self.seats) or 'none'}")
            raise ConfigError(f"there is no stream {name[:64]!r} in the fleet; {hint}")
        return self.seats[name]

    def node(self, name: str) -> NodeFacts:
        """A node by name. Raises ConfigError."""
        known = {facts.name: facts for facts in self.pulse.facts()}
        if name not in known:
            hint = did_you_mean(name, list(known), f"there are {', '.join(known) or 'none'}")
            raise ConfigError(f"there is no node {name[:64]!r} in the fleet; {hint}")
        return known[name]
