"""What pages show: the label stream's newest messages, and an hour of events, for those who open a page later."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice

from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage

SECONDS = 60  # how far back a page is told at once, and how far back scores are kept
HOUR_S = 3600  # how far back it may ask
MOST_EVENTS = 20_000  # of all streams, with gaps; about 1 KB each
MOST_SCORES = 1800  # of a stream, about 1.5 KB each
_LOG = 4096  # messages that a page may be behind before it starts over

Scores = list[tuple[int, list[tuple[str, float]]]]
"""Evaluations: their times, microseconds UTC, and the highest probabilities."""


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
        self._events: dict[tuple[str, str], Message] = {}  # the newest message of each event, and gaps
        self._scores: dict[str, deque[ScoreMessage]] = {}
        self._last: dict[tuple[str, str], Message] = {}  # stream, kind -> the newest of the others

    def __call__(self, message: Message) -> None:
        """Take one message. Never waits for a page; a new session of the publisher forgets the old one's messages."""
        with self._lock:
            if message.session != self._session:
                self._session = message.session
                self._events.clear()
                self._scores.clear()
                self._last.clear()
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

    def _keep(self, message: EventMessage | GapMessage) -> None:
        name = message.id if isinstance(message, EventMessage) else f"gap {message.seq}"
        self._events[message.stream, name] = message
        oldest_us = message.ts.pub_us - HOUR_S * 1_000_000
        while len(self._events) > MOST_EVENTS or next(iter(self._events.values())).ts.pub_us < oldest_us:
            del self._events[next(iter(self._events))]

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
            return [message for (name, _), message in self._events.items() if name == stream]

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
        recent = [one for one in self._events.values() if one.ts.pub_us >= newest_us - SECONDS * 1_000_000]
        statuses = sum(message.kind == "status" for message in last)
        return last[:statuses] + recent + last[statuses:]
