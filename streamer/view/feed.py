"""What pages show: the label stream's newest messages, kept for those who open a page later."""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice

from streamer.labels.messages import EventMessage, GapMessage, Message

SECONDS = 60  # how far back the timelines go
_LOG = 4096  # messages that a page may be behind before it starts over
_EVENTS = 512  # of one stream; more do not fit into a timeline


class Feed:
    """Messages from one thread (the engine's or a subscriber's reader) to another (the page server's).

    A page reads with a cursor: the number of messages it has seen, or None at first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session = ""
        self._count = 0
        self._log: deque[Message] = deque(maxlen=_LOG)
        self._events: dict[str, deque[Message]] = {}  # events and gaps of each stream
        self._streams: set[str] = set()
        self._last: dict[tuple[str, str], Message] = {}  # stream, kind -> the newest of the others

    def __call__(self, message: Message) -> None:
        """Take one message. Never waits for a page; a new session of the publisher forgets the old one's messages."""
        with self._lock:
            if message.session != self._session:
                self._session = message.session
                self._events.clear()
                self._last.clear()
                self._streams.clear()
            self._count += 1
            self._streams.add(message.stream)
            self._log.append(message)
            if isinstance(message, EventMessage | GapMessage):
                self._events.setdefault(message.stream, deque(maxlen=_EVENTS)).append(message)
            else:
                self._last[message.stream, message.kind] = message

    def knows(self, stream: str) -> bool:
        """Whether the publisher has said anything of this stream."""
        return stream in self._streams

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
        events = [message for stream in self._events.values() for message in stream]
        recent = [message for message in events if message.ts.pub_us >= newest_us - SECONDS * 1_000_000]
        statuses = sum(message.kind == "status" for message in last)
        return last[:statuses] + recent + last[statuses:]
