from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from streamer.bridges import feed
from streamer.bridges.feed import Choice, carry
from streamer.labels.messages import Message, MessageBuilder
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import STAMP

from .peers import Speaker, event, events

WaitFor = Callable[[Callable[[], bool]], None]


class Kept:
    """A bridge that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.looks = 0
        self.closed = False

    def take(self, message: Message) -> None:
        self.taken.append(message)

    def look(self) -> None:
        self.looks += 1

    def counts(self) -> dict[str, int]:
        return {"events": len(self.taken)}

    def close(self) -> None:
        self.closed = True


class Carrying(threading.Thread):
    """Carries labels from an address to a bridge."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.bridge, self.told, self.stop = Kept(), list[str](), threading.Event()
        self._address = address
        self.start()

    def run(self) -> None:
        with Subscriber(self._address, kinds=["event"]) as subscriber:
            carry(subscriber, self._address, self.bridge, self.stop, self.told.append)

    def __enter__(self) -> Carrying:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join(30)
        assert self.bridge.closed


def test_a_bridge_looks_at_the_clock_whether_messages_come_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "TICK_S", 0.01)
    monkeypatch.setattr(feed, "TOLD_S", 0.02)
    with Speaker() as speaker, Carrying(speaker.address) as carrying:
        speaker.heard()
        speaker.until(lambda: carrying.bridge.looks > 3)
        before = carrying.bridge.looks
        speaker.until(lambda: carrying.bridge.looks > before + 3, lambda: events(speaker.build))
        speaker.until(lambda: len(carrying.told) > 1, lambda: events(speaker.build))
    assert carrying.told[-1] == f"{len(carrying.bridge.taken)} events, 0 missed, 0 not understood"


def test_a_bridge_says_why_it_waits_and_that_it_no_longer_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wait_for: WaitFor
) -> None:
    monkeypatch.setattr(feed, "PATIENCE_S", 0.1)
    with Speaker() as speaker:
        address = speaker.address
    with Carrying(address) as carrying:
        wait_for(lambda: f"waiting for {address}: nobody listens there" in caplog.text)
        with Speaker(address) as speaker:
            speaker.heard()
            speaker.until(lambda: carrying.bridge.taken, lambda: events(speaker.build))
            speaker.until(lambda: f"labels come from {address}" in caplog.text)
            assert caplog.text.count("nobody listens there") == 1


def test_events_are_chosen_by_label_and_type() -> None:
    build = MessageBuilder("net@1", "stream", "run", lambda: 0)
    start, end = events(build)
    assert start in Choice()
    assert end in Choice(["wave"], ["end"])
    assert start not in Choice(["wave"], ["end"])
    assert event("start", "clap") not in Choice(["wave"])
    assert build.gap("door", STAMP, 0, 1, "gap") not in Choice()
