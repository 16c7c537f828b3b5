"""What holds at a fleet's address whatever happens to its machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from streamer import EventMessage, Message

MOST_TOLD = 5  # broken rules of one kind


def broken(messages: Sequence[Message]) -> list[str]:
    """Which rules these messages of one reader, from the hub's first to its last, break; a few sentences of each kind.

    Each start has exactly one end, before the next start; `seq` has no holes within a session; terms never go back.
    """
    problems: dict[str, list[str]] = {"event": [], "seq": [], "term": []}
    open_ids: dict[str, str] = {}
    seqs: dict[tuple[str, str, str], int] = {}
    terms: dict[str, int] = {}
    for message in messages:
        stream = message.stream
        key = message.session, stream, message.kind
        if message.seq <= seqs.get(key, -1):  # the last values, sent again for another reader
            continue
        if key in seqs and message.seq != seqs[key] + 1:
            problems["seq"].append(f"{stream}: {message.kind} {seqs[key]} is followed by {message.seq}")
        seqs[key] = message.seq
        if message.term is not UNSET:
            if message.term < terms.get(stream, 0):
                problems["term"].append(f"{stream}: term {message.term} was heard after {terms[stream]}")
            terms[stream] = max(message.term, terms.get(stream, 0))
        if isinstance(message, EventMessage):
            problems["event"] += _told(message, open_ids)
    problems["event"] += [f"{stream}: event {event} has no end" for stream, event in open_ids.items()]
    return [sentence for kind in problems.values() for sentence in kind[:MOST_TOLD]]


def _told(event: EventMessage, open_ids: dict[str, str]) -> list[str]:
    """What is wrong with an event, after those that are open."""
    before = open_ids.get(event.stream)
    if event.type == "start":
        open_ids[event.stream] = event.id
        return [f"{event.stream}: event {before} has no end before the next start"] if before else []
    if event.type == "end":
        open_ids.pop(event.stream, None)
    return [] if event.id == before else [f"{event.stream}: {event.type} of {event.id} without its start"]
