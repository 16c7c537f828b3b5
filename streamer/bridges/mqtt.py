"""Labels to an MQTT broker, and so to Home Assistant, Node-RED and whatever else listens there."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Collection

from engines.errors import did_you_mean
from streamer.bridges.board import Board, Post
from streamer.bridges.broker import Broker
from streamer.bridges.homeassistant import OFFLINE, ONLINE
from streamer.bridges.knowing import Knowing
from streamer.bridges.link import Link
from streamer.labels.messages import Message

COUNTS_S = 10.0
_MOST_FOUND = 10_000

_log = logging.getLogger(__name__)


class Mqtt:
    """The bridge to a broker.

    prefix     begins its topics, and tells it from other bridges
    discovery  where Home Assistant looks for devices; None: it is told nothing
    labels     only these; none: all
    knowing    tells labels before they happen; None: they come as they happen
    most       events that wait at most, and keep_s: how long
    """

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        discovery: str | None,
        labels: Collection[str] = (),
        knowing: Knowing | None = None,
        most: int = 10_000,
        keep_s: float = 60.0,
    ) -> None:
        self._prefix, self._knowing, self._labels = prefix, knowing, frozenset(labels)
        self._board = Board(prefix, discovery, labels)
        self._birth = f"{discovery}/status" if discovery else ""
        self._found: deque[tuple[str, bytes]] = deque(maxlen=_MOST_FOUND)
        self._received = 0
        self._told, self._next_s = "", 0.0
        topics = [f"{prefix}/+/label/+", f"{prefix}/+/available", *([self._birth] if discovery else [])]
        will = Post(f"{prefix}/bridge", OFFLINE)
        client_id = f"streamer{hashlib.sha256(prefix.encode()).hexdigest()[:15]}"  # no broker has to take a longer one
        self._link = Link(broker, client_id, will, ONLINE, topics, self._hear, most, keep_s)

    def take(self, message: Message) -> None:
        """One more message."""
        if self._knowing:
            self._knowing.wants(message.session, message.model)
        posts = list(self._board.take(message, time.monotonic()))
        self._received += sum(not post.retained for post in posts)
        self._link.put(posts)

    def look(self) -> None:
        """Switch off what nobody speaks for, and right what the broker has of an earlier time."""
        self._link.check()
        now_s = time.monotonic()
        while self._knowing and self._knowing.news:
            session, known = self._knowing.news.pop(0)
            for label in self._labels.difference(known):
                hint = did_you_mean(label, known, "`streamer models --labels` lists them")
                _log.warning("--label %s: the run's model tells of no such label; %s", label, hint)
            self._link.put(self._board.expect(session, known))
        while self._found:
            self._link.put(self._board.found(*self._found.popleft()))
        self._link.put(self._board.look(now_s))
        if now_s >= self._next_s:
            self._next_s = now_s + COUNTS_S
            told = json.dumps(self.counts())
            if told != self._told:
                self._told = told
                self._link.put([Post(f"{self._prefix}/counts", told.encode())])

    def counts(self) -> dict[str, int]:
        """What became of the messages."""
        return {
            "events": self._received,
            "sent": self._link.sent,
            "dropped": self._link.dropped,
            "passed over": self._board.passed_over + self._link.passed_over,
        }

    def close(self) -> None:
        """Switch everything off, and leave."""
        self._link.put(self._board.close())
        self._link.close()

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        """Something came from the broker, in the link's thread."""
        if topic == self._birth:
            if payload == ONLINE:  # Home Assistant has started, and knows nothing of what is not retained
                self._link.repeat()
        elif retained:
            self._found.append((topic, payload))
