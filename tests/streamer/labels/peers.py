"""What the tests of the label stream share: messages of each kind, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber

ANY_PORT = "tcp://127.0.0.1:*"
STAMP = Stamp(epoch=2, ready=True, frame_us=1_700_000_000_000_000, infer_us=1_700_000_000_040_000)
START = Event("start", "wave", 1, 0.75, 0.8125, 1_700_000_000_000_000)
END = Event("end", "wave", 1, 0.25, 0.9375, 1_700_000_000_000_000, 1_700_000_001_500_000, "score")
WINDOW = Window(n=8, step_ms=100.0, first_us=1_699_999_999_300_000, last_us=1_700_000_000_000_000)


def publisher_at(address: str = ANY_PORT, session: str = "run") -> Publisher:
    return Publisher(address, "net@1234", "stream", session=session)


def one_of_each(build: MessageBuilder, stream: str = "cam1") -> list[Message]:
    return [
        build.event(stream, STAMP, START),
        build.event(stream, STAMP, END),
        build.state(stream, STAMP, State("wave", 1, 0.75, 1_700_000_000_000_000)),
        build.state(stream, Stamp(), State()),
        build.score(stream, STAMP, [("wave", 0.75), ("none", 0.25)], WINDOW),
        build.status(stream, STAMP, "online", "640x480", 100, {"buffer": 3}, 97, 1, 29.97, 4.5, 7.25),
        build.status(stream, Stamp(), "connecting"),
        build.gap(stream, STAMP, 1_700_000_000_000_000, 1_700_000_002_000_000, "stalled"),
    ]


def moments(deadline_s: float = 30) -> Iterator[None]:
    """Again and again, with a short pause, until the deadline fails the test."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)
    raise AssertionError(f"this did not happen within {deadline_s} s")


def collect(publisher: Publisher, subscriber: Subscriber, until: Callable[[list[Message]], bool]) -> list[Message]:
    """Read messages until there are enough, while the publisher answers subscriptions."""
    messages: list[Message] = []
    given, subscriber.timeout_s = subscriber.timeout_s, 0.01
    for _ in moments():
        publisher.poll()
        with suppress(TimeoutError):
            messages.append(next(subscriber))
        if until(messages):
            break
    subscriber.timeout_s = given
    return messages


def join(publisher: Publisher, subscriber: Subscriber) -> None:
    """Wait until the subscriber has a retained state of this publisher, so that it misses nothing from now on."""
    mark = publisher.build.state("join", Stamp(), State())
    publisher.send(mark)
    collect(publisher, subscriber, lambda messages: mark in messages)
