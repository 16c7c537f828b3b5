"""What pages show: the label stream's newest messages, and an hour of events, for those who open a page later."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StateMessage, StatusMessage

SECONDS = 60  # how far back a page is told at once, and how far back scores are kept
HOUR_S = 3600  # how far back it may ask
MOST_EVENTS = 20_000  # of all streams, with gaps; about 1 KB each
MOST_SCORES = 1800  # of a stream, about 1.5 KB each
MOST_STOPPED = 256  # streams that have ended, of which it is still told that they have
_LOG = 4096  # messages that a page may be behind before it starts over

Scores = list[tuple[int, list[tuple[str, float]]]]
"""Evaluations: their times, microseconds UTC, and the highest probabilities."""


@dataclass(frozen=True, slots=True)
class Past:
    """What `Feed.events` gives: each event by its newest message, the one that was told of longest ago first.

    next          where to go on
    more          whether there are more than were asked for
    whole         whether none is missing between where to begin and the first of them
    kept_from_us  from this time on all events are kept, microseconds UTC; None: nothing has been heard yet
    """

    events: list[EventMessage]
    next: str
    more: bool
    whole: bool
    kept_from_us: int | None


class Feed:
    """Messages from one thread (the engine's or a subscriber's reader) to another (the page server's).

    A page reads with a cursor: the number of messages it has seen, or None at first.

    order  the streams that are known beforehand, as they shall stand on the page
    """

    def __init__(self, order: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._session = ""
        self._count = 0
        self._log: deque[Message] = deque(maxlen=_LOG)
        self._order = tuple(order)
        self._streams = dict.fromkeys(order, False)  # whether the publisher has said anything of it
        self._events: dict[tuple[str, str], tuple[int, Message]] = {}  # newest messages and their numbers, and gaps
        self._name = secrets.token_hex(4)  # of these events, in `Past.next`
        self._lost = 0  # who has heard less than so many messages has missed an event that is not among them
        self._kept_from_us: int | None = None
        self._next_seq: dict[str, int] = {}  # of the events of a stream
        self._scores: dict[str, deque[ScoreMessage]] = {}
        self._last: dict[tuple[str, str], Message] = {}  # stream, kind -> the newest of the others
        self._stopped: dict[str, None] = {}  # the last streams that have ended

    def __call__(self, message: Message) -> None:
        """Take one message. Never waits for a page; a new session of the publisher forgets the old one's messages."""
        with self._lock:
            if message.session != self._session:
                if self._session:
                    self._name = secrets.token_hex(4)
                self._session, self._lost, self._kept_from_us = message.session, 0, message.ts.pub_us
                self._next_seq.clear()
                self._events.clear()
                self._scores.clear()
                self._last.clear()
                self._stopped.clear()
                self._streams = dict.fromkeys(self._order, False)
            self._count += 1
            self._streams[message.stream] = True
            self._log.append(message)
            if isinstance(message, EventMessage | GapMessage):
                self._keep(message)
            else:
                self._last[message.stream, message.kind] = message
            if isinstance(message, ScoreMessage):
                self._scores.setdefault(message.stream, deque(maxlen=MOST_SCORES)).append(message)
            if isinstance(message, StatusMessage):
                self._stopped.pop(message.stream, None)
                if message.source == "stopped":
                    self._stop(message.stream)

    def _stop(self, stream: str) -> None:
        """A stream has ended: with names that are always new, what is kept of old ones would grow without end."""
        self._stopped[stream] = None
        self._scores.pop(stream, None)
        self._next_seq.pop(stream, None)
        for kind in ("state", "score"):
            self._last.pop((stream, kind), None)
        if len(self._stopped) > MOST_STOPPED:
            oldest = next(iter(self._stopped))
            for forgotten in (self._stopped, self._streams):
                forgotten.pop(oldest, None)
            self._last.pop((oldest, "status"), None)

    def _keep(self, message: EventMessage | GapMessage) -> None:
        name = f"gap {message.seq}"
        if isinstance(message, EventMessage):
            name = message.id
            if self._next_seq.get(message.stream, message.seq) != message.seq:  # the page was too slow to hear it
                self._lose(self._count, message)
            self._next_seq[message.stream] = message.seq + 1
        self._events.pop((message.stream, name), None)  # the one that was told of last is the last
        self._events[message.stream, name] = self._count, message
        oldest_us = message.ts.pub_us - HOUR_S * 1_000_000
        while len(self._events) > MOST_EVENTS or next(iter(self._events.values()))[1].ts.pub_us < oldest_us:
            self._lose(*self._events.pop(next(iter(self._events))))

    def _lose(self, number: int, message: Message) -> None:
        """Of what was told until this message not all is kept."""
        if isinstance(message, EventMessage) and number > self._lost:
            self._lost, self._kept_from_us = number, message.ts.pub_us + 1

    def knows(self, stream: str) -> bool:
        """Whether the publisher has said anything of this stream."""
        return self._streams.get(stream, False)

    def order(self) -> list[str]:
        """The streams as they shall stand on the page: those known beforehand, then the others as they came."""
        with self._lock:
            return list(self._streams)

    def past(self, stream: str) -> list[Message]:
        """The events and gaps of a stream in the last hour, the oldest first; of an event its newest message."""
        with self._lock:
            return [message for (name, _), (_, message) in self._events.items() if name == stream]

    def state(self, stream: str) -> StateMessage | None:
        """The last label in force of a stream that was told."""
        last = self._last.get((stream, "state"))
        return last if isinstance(last, StateMessage) else None

    def events(self, since: str | int | None, most: int, stream: str | None = None, label: str | None = None) -> Past:
        """The first `most` events of which something was told after `since`; None: the last `most`.

        since   what `next` was, or a time, microseconds UTC
        stream  of this stream alone; label: of this one
        """
        with self._lock:
            number = self._number(since) if isinstance(since, str) else 0
            after_us = since if isinstance(since, int) else -1
            found: list[tuple[int, EventMessage]] = []
            for at, message in reversed(self._events.values()):
                if at <= (number or 0) or (since is None and len(found) == most):
                    break
                if (
                    isinstance(message, EventMessage)
                    and message.ts.pub_us > after_us
                    and stream in (None, message.stream)
                    and label in (None, message.label)
                ):
                    found.append((at, message))
            found.reverse()
            more = len(found) > most
            last = found[most - 1][0] if more else self._count
            whole = since is None or (number is not None and number >= self._lost)
            if isinstance(since, int):
                whole = self._kept_from_us is not None and since + 1 >= self._kept_from_us
            return Past([one for _, one in found[:most]], f"{last}@{self._name}", more, whole, self._kept_from_us)

    def _number(self, since: str) -> int | None:
        """The number of a message that an earlier `next` names; None if it names one of other events."""
        number, _, name = since.partition("@")
        return int(number) if name == self._name and int(number) <= self._count else None

    def scores(self, stream: str) -> Scores:
        """The evaluations of a stream in its last minute, the oldest first."""
        with self._lock:
            kept = list(self._scores.get(stream, ()))
        newest_us = kept[-1].window.last_us if kept else 0
        told = [(message.window.last_us, message.topk) for message in kept]
        return [one for one in told if one[0] > newest_us - SECONDS * 1_000_000]

    def since(self, cursor: int | None) -> tuple[int, bool, list[Message]]:
        """(next cursor, whether this starts over, messages) after a cursor.

        A page that is new, or too far behind, starts over: it gets the last minute's events and where things stand.
        """
        with self._lock:
            behind = None if cursor is None else self._count - cursor
            if behind is None or behind > len(self._log):
                return self._count, True, self._history()
            return self._count, False, list(islice(self._log, len(self._log) - behind, None))

    def _history(self) -> list[Message]:
        """Status first, so that a page knows a stream before it hears of its labels."""
        last = sorted(self._last.values(), key=lambda message: message.kind != "status")
        newest_us = max((message.ts.pub_us for message in last), default=0)
        recent = [one for _, one in self._events.values() if one.ts.pub_us >= newest_us - SECONDS * 1_000_000]
        statuses = sum(message.kind == "status" for message in last)
        return last[:statuses] + recent + last[statuses:]
