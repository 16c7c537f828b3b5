"""A bridge's end of the label stream: it gives messages to the bridge, and tells how many there were.

While nothing comes it says why, once; it waits for as long as that takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from streamer.bridges.outbox import Outbox
from streamer.labels.messages import EventMessage, Message
from streamer.labels.subscriber import Subscriber

TICK_S = 0.2
PATIENCE_S = 6.0  # a run that is well says something every second
TOLD_S = 60.0  # how often the counts are told, while they change

_log = logging.getLogger(__name__)


class Bridge(Protocol):
    """What carries messages to another end. `take` and `look` return at once, whatever that end does."""

    def take(self, message: Message) -> None:
        """One more message."""

    def look(self) -> None:
        """Comes several times a second, for what time changes."""

    def counts(self) -> dict[str, int]:
        """What became of the messages."""

    def close(self) -> None:
        """Give what waits a few seconds, and end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are carried: of these labels (none: all), of these types."""

    labels: Collection[str] = ()
    types: Collection[str] = ("start", "end")

    def __contains__(self, message: object) -> bool:
        return (
            isinstance(message, EventMessage)
            and message.type in self.types
            and (not self.labels or message.label in self.labels)
        )


class EventBridge:
    """What bridges of single events share: those that are chosen wait, at most `most`, for threads that take them."""

    def __init__(self, choice: Choice, most: int) -> None:
        self._choice = choice
        self._outbox: Outbox[EventMessage] = Outbox(most)
        self._received = 0

    def take(self, message: Message) -> None:
        """One more message."""
        if isinstance(message, EventMessage) and message in self._choice:
            self._received += 1
            self._outbox.put(message)

    def look(self) -> None:
        """Time changes nothing here."""


def carry(
    subscriber: Subscriber, address: str, bridge: Bridge, stop: threading.Event, say: Callable[[str], None]
) -> None:
    """Give a bridge what the subscriber of `address` receives, until `stop` is set; then close it.

    say: is told the counts, at most once a minute and at the end.
    """
    told, next_s = "", time.monotonic() + TOLD_S
    try:
        for message in _read(subscriber, address, stop):
            if message:
                bridge.take(message)
                continue
            bridge.look()
            if time.monotonic() >= next_s:
                told, before = _counted(bridge, subscriber), told
                next_s = time.monotonic() + TOLD_S
                if told != before:
                    say(told)
    finally:
        bridge.close()
        say(_counted(bridge, subscriber))


def _counted(bridge: Bridge, subscriber: Subscriber) -> str:
    lost = {"missed": subscriber.missed + subscriber.dropped, "not understood": subscriber.invalid}
    return ", ".join(f"{count} {what}" for what, count in (bridge.counts() | lost).items())


def _read(subscriber: Subscriber, address: str, stop: threading.Event) -> Iterator[Message | None]:
    """The messages, and None at each tick."""
    heard_s = tick_s = time.monotonic()
    told, subscriber.timeout_s = "", TICK_S
    while not stop.is_set():
        try:
            message = next(subscriber)
        except TimeoutError:
            message = None
        except StopIteration:
            return
        now_s = time.monotonic()
        if message:
            heard_s = now_s
            yield message
        elif now_s - heard_s > PATIENCE_S and (why := subscriber.why_silent()) != told:
            _log.warning("waiting for %s: %s", address, why)
            told = why
        if message and told:
            _log.warning("labels come from %s", address)
            told = ""
        if now_s - tick_s >= TICK_S:
            tick_s = now_s
            yield None
