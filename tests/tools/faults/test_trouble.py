from __future__ import annotations

import signal
from typing import Any

import pytest

from streamer.errors import ConfigError
from tools.faults import trouble
from tools.faults.trouble import Trouble


class Recorder:
    """Machines, their networks and cameras in one, that only remember what was done to them."""

    nodes = ("a", "b")
    names = ("cam0", "cam1")

    def __init__(self) -> None:
        self.nets, self.cameras = self, {"cam0": self}
        self.done: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *what, **named: self.done.append((name, *what, *named.items()))

    def wait(self, done: Any, longest_s: float, what: str) -> float:
        return 0.0

    def head_size(self) -> tuple[float, int]:
        return 60.0, 50

    def order(self, **order: Any) -> None:
        if order["command"] == "move":
            raise ConfigError("cam0 is on a already")
        self.done.append(("order", *order.values()))


UNDONE = {
    ("signal", "a", signal.SIGSTOP): ("signal", "a", signal.SIGCONT),
    ("signal", "head", signal.SIGSTOP): ("signal", "head", signal.SIGCONT),
    ("signal", "b", signal.SIGKILL): ("begin_node", "b"),
    ("signal", "head", signal.SIGKILL): ("begin_head",),
    ("unplug", "a"): ("plug", "a"),
    ("order", "drain", "b", False): ("order", "drain", "b", True),
    ("kill",): ("begin_camera", "cam0"),
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "LONGEST_S", 0.0)
    monkeypatch.setattr(trouble, "WARM_S", 0.0)


def test_each_trouble_happens_and_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "HEADS", 1.0)
    it = Recorder()
    made = Trouble(it, seed=1)  # type: ignore[arg-type]
    made.go_on(0.02)
    assert len(made.counts) == 10
    for cause, end in UNDONE.items():
        where = [place for place, one in enumerate(it.done) if one == cause]
        assert where, cause
        assert all(it.done[place + 1] == end for place in where)


def test_a_head_that_is_looked_at_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "HEADS", 0.0)
    it = Recorder()
    made = Trouble(it)  # type: ignore[arg-type]
    made.go_on(0.02)
    assert made.counts.keys() >= {"killed", "head stopped"}
    assert ("begin_head",) not in it.done
    assert made.sizes == [(60.0, 50)] * 2
