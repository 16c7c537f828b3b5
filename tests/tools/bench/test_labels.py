from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.labels.publisher import Publisher
from tests.streamer.labels.peers import ANY_PORT, STAMP
from tools.bench import labels as label_cost
from tools.peers.readers import Readers

WaitFor = Callable[[Callable[[], bool]], None]


def test_readers_join_stall_leave_and_die(wait_for: WaitFor) -> None:
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher:
        publisher.send(publisher.build.status("cam", STAMP, "online"))

        def subscriptions_are(count: int) -> bool:
            publisher.poll()
            return publisher.subscriptions == count

        many, slow = Readers(publisher.address, 20), Readers(publisher.address, 1, "act/1/cam/", every_s=0.01)
        wait_for(lambda: subscriptions_are(21))
        many.wait_until_joined()
        slow.wait_until_joined()
        many.stall()
        many.leave()
        wait_for(lambda: subscriptions_are(1))
        assert many.process.returncode == 0
        slow.stall()
        slow.die()
        wait_for(lambda: subscriptions_are(0))


def test_every_kind_of_readers_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CROWD", 5), ("SETTLE_S", 0.2), ("EVERY_S", 0.1)):
        monkeypatch.setattr(label_cost, name, value)
    found = label_cost.measure(rounds=1, seconds=0.5, model=None)
    assert list(found) == ["nobody", "one", "5", "5 slow", "5 stopped", "5 dying"]
    for figures in found.values():
        assert set(figures) == {"frames", "publish", "engine", "program", "age", "memory"}
        assert all(value > 0 for value in figures.values())
        assert figures["engine"] < figures["program"]
