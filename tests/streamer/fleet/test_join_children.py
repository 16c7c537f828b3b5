"""The two children of `fleet join`: Ray's daemon, here a program that sleeps, and a real run."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.fleet import cluster, join
from streamer.fleet.agent import Agent, Place, Reign
from streamer.fleet.folder import write

from .conftest import welcome

WaitFor = Callable[[Callable[[], bool]], None]


class Kept:
    """A node whose daemon of Ray is a program that sleeps, and at whose head somebody listens."""

    def __init__(self, folder: Path, place: Place, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
        self.folder = folder
        monkeypatch.setattr(join, "LOOK_S", 0.01)
        monkeypatch.setattr(join, "CHECK_S", 0.01)
        monkeypatch.setattr(cluster, "node_arguments", lambda *_: ["sleep", "600"])
        self.node = join.Node(head, folder / "token", folder, place)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.node.work, args=(self._stop,))
        self._thread.start()

    def child(self, name: str) -> int:
        """The number of a child's process; 0: there is none."""
        with suppress(OSError):
            return int((self.folder / f"{name}.pid").read_text().split()[0])
        return 0

    @property
    def works(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)


@pytest.fixture
def kept(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    tmp_path.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as head:
        kept = Kept(tmp_path, place, monkeypatch, f"127.0.0.1:{head.getsockname()[1]}")
        yield kept
        kept.close()


def test_a_run_that_hangs_is_ended_and_started_anew_which_its_head_is_told(
    agent: Agent, kept: Kept, tmp_path: Path, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr("streamer.fleet.agent.STATUS_S", 0.5)
    script = tmp_path / "two.scores.json"
    script.write_text('{"labels": ["up", "down"], "scores": [[0.9, 0.1]]}')
    agent.welcome(welcome(model=str(script)))
    wait_for((tmp_path / "run.control").exists)
    before, session = kept.child("run"), agent.facts().session
    os.kill(before, signal.SIGSTOP)
    wait_for(lambda: kept.child("run") not in (0, before) and (tmp_path / "run.control").exists())
    wait_for(lambda: _answers(agent))
    assert agent.facts().session != session
    assert "UTC: the run hung: it left 6 questions unanswered; it is started again" in agent.status().happened
    assert "the run hung" in caplog.text


def test_a_daemon_of_ray_through_which_no_head_asks_is_started_anew(
    kept: Kept, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: bool(kept.child("ray")))
    before, looks = kept.child("ray"), []

    def asked(_: Agent) -> int:
        """A head asks, and then no more."""
        looks.append(kept.child("ray"))
        return min(len(looks), 2 * join.DEAF)

    monkeypatch.setattr(Agent, "asked", asked)
    wait_for(lambda: kept.child("ray") not in (0, before))
    assert set(looks[: 3 * join.DEAF - 1]) == {before}


def test_a_node_whose_head_is_away_tells_it_once(
    kept: Kept, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    wait_for(lambda: bool(kept.child("ray")))
    tries: list[str] = []

    def unreachable(address: str) -> str:
        tries.append(address)
        return "nobody listens there"

    monkeypatch.setattr(join, "unreachable", unreachable)
    os.kill(kept.child("ray"), signal.SIGKILL)
    wait_for(lambda: len(tries) > 10)
    assert caplog.text.count("Ray's daemon has ended") == caplog.text.count("no head at") == 1


def test_a_node_leaves_when_its_head_knows_so_that_it_can_join_as_a_new_one(
    agent: Agent, kept: Kept, tmp_path: Path, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "UNASKED_S", 600.0)
    looks: list[int] = []
    asked = Agent.asked

    def counted(self: Agent) -> int:
        looks.append(asked(self))
        return looks[-1]

    monkeypatch.setattr(Agent, "asked", counted)
    agent.obey(Reign(1, "head"))
    write(tmp_path / "leaving", b"")
    count = len(looks)
    wait_for(lambda: len(looks) > count + 10)
    assert kept.works
    later = (tmp_path / "leaving").stat().st_mtime_ns + 2 * 10**9
    os.utime(tmp_path / "obeys.json", ns=(later, later))  # as a question does that comes later
    wait_for(lambda: not kept.works)


def _answers(agent: Agent) -> bool:
    with suppress(ConfigError):
        return bool(agent.facts())
    return False
