"""A fleet on a real Ray cluster: a head and three nodes, each a process as a user starts it, at loopback addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from streamer import Subscriber
from streamer.fleet.folder import Child
from streamer.labels.addresses import unreachable
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage
from streamer.labels.requests import ask

pytestmark = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: pip install 'action-streamer[fleet]'"
)

LONGEST_S = 240.0  # on a machine that does much else
SCRIPT = (
    '{"labels": ["up", "down"], "scores": [[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]}'
)


def until(condition: Callable[[], Any], longest_s: float = LONGEST_S) -> Any:
    """Wait until something holds."""
    ends = time.monotonic() + longest_s
    while not (held := condition()):
        assert time.monotonic() < ends, condition
        time.sleep(0.1)
    return held


class RealFleet:
    """The processes of a fleet, in a folder of their own."""

    def __init__(self, folder: Path, labels: str, at: str) -> None:
        self.folder, self.labels, self.at = folder, labels, at
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a head or a node."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "streamer", "fleet", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def head(self) -> None:
        self.start("head", "head", "-c", "fleet.yaml", "--labels", self.labels, "--at", self.at)

    def join(self, name: str, host: str) -> None:
        token = str(self.folder / "fleet" / "token")
        self.start(name, "join", self.at, "--token-file", token, "--name", name, "--rows", "3", "--at", host)

    def status(self) -> Any:
        """As `fleet status --json` tells; None while there is no head. Without a process each time."""
        told = (self.folder / "head.log").read_text()
        control = [line.split()[1] for line in told.splitlines() if line.startswith("control ")]
        if not control or unreachable(control[-1]):
            return None
        return ask(control[-1], {"command": "status"}, timeout_s=20)

    def ask(self, *arguments: str) -> Any:
        """A command of the user; None if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "fleet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def children(self, name: str) -> list[int]:
        """The groups of processes of a node: Ray's daemon and the run."""
        files = (self.folder / "action-streamer" / f"fleet-{name}" / file for file in ("ray.pid", "run.pid"))
        return [int(file.read_text().split()[0]) for file in files if file.exists()]

    def kill(self, name: str) -> None:
        """kill -9 of all processes of a head or a node."""
        groups = self.children(name)
        if name == "head":
            groups = [int((self.folder / "fleet" / "ray.pid").read_text().split()[0])]
        self.processes[name].kill()
        self.processes.pop(name).wait()
        for group in groups:
            os.killpg(group, signal.SIGKILL)

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)

    def told(self) -> str:
        """What all of them have logged."""
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def fleet() -> Iterator[RealFleet]:
    folder = Path(tempfile.mkdtemp(prefix="fleet", dir="/tmp"))  # sockets have short names
    (folder / "two.scores.json").write_text(SCRIPT)
    sources = [{"uri": "pattern://swipe?size=64x48&fps=20", "name": name} for name in ("door", "gate", "yard")]
    run = {"model": str(folder / "two.scores.json"), "backend": "scripted"}
    (folder / "fleet.yaml").write_text(json.dumps({"sources": sources, "run": run}))
    free = _free_ports(2)
    fleet = RealFleet(folder, f"tcp://127.0.0.1:{free[0]}", f"127.0.0.1:{free[1]}")
    try:
        fleet.head()
        until((folder / "fleet" / "token").exists)
        for number in (1, 2, 3):
            fleet.join(f"n{number}", f"127.0.0.{number + 1}")
        yield fleet
    finally:
        fleet.close()
        shutil.rmtree(folder, ignore_errors=True)


class Reader:
    """All that the fleet publishes, read in a thread."""

    def __init__(self, address: str) -> None:
        self.messages: list[Message] = []
        self._subscriber = Subscriber(address)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.messages.extend(self._subscriber)

    def close(self) -> None:
        self._subscriber.close()
        self._thread.join(10)

    def scores(self, stream: str, after: int) -> list[Message]:
        return [one for one in self.messages[after:] if isinstance(one, ScoreMessage) and one.stream == stream]


@pytest.mark.timeout(900)
def test_streams_go_on_when_a_node_is_killed_and_when_the_head_is_and_every_start_has_one_end(fleet: RealFleet) -> None:
    def states() -> dict[str, str]:
        told = fleet.status()
        return {one["name"]: one["state"] for one in told["nodes"]} if told else {}

    until(lambda: states() == {"n1": "up", "n2": "up", "n3": "up"})
    reader = Reader(fleet.labels)
    until(lambda: all(reader.scores(stream, 0) for stream in ("door", "gate", "yard")))
    told = fleet.ask("status", "--json", "--why")
    where = {one["stream"]: one["node"] for one in told["streams"]}
    assert "the least loaded of" in told["streams"][0]["why"]

    killed, count = where["door"], len(reader.messages)
    fleet.kill(killed)
    until(lambda: any(one.node not in (None, killed) for one in reader.scores("door", count)))
    moved = [one for one in reader.messages if isinstance(one, GapMessage) and one.reason == "moved"]
    assert [one.stream for one in moved] == [stream for stream, node in where.items() if node == killed]

    fleet.kill("head")
    left = next(node for node in ("n1", "n2", "n3") if node != killed)
    runs = fleet.children(left)
    time.sleep(2)
    assert fleet.processes[left].poll() is None  # nodes go on without a head
    count = len(reader.messages)
    fleet.head()
    until(lambda: all(reader.scores(stream, count) for stream in ("door", "gate", "yard")))
    until(lambda: list(states().values()).count("up") == 2)
    assert fleet.children(left)[-1:] == runs[-1:]  # and nothing that runs was started anew
    reader.close()

    open_: dict[str, bool | None] = {}
    last: dict[str, tuple[str, int]] = {}
    for one in reader.messages:
        if isinstance(one, EventMessage):
            if last.get(one.stream) != (one.session, one.seq - 1):
                open_[one.stream] = None  # the reader was not there for what came between
            last[one.stream] = (one.session, one.seq)
            assert one.type != "start" or not open_[one.stream]
            assert one.type != "end" or open_[one.stream] is not False
            open_[one.stream] = one.type != "end"
    secret = (fleet.folder / "fleet" / "token").read_text().strip()
    assert secret not in fleet.told()

    head = fleet.processes.pop("head")
    head.terminate()
    assert head.wait(LONGEST_S) == 0  # and not by Ray's hand, as long as its own head ends
    assert not Child(fleet.folder / "fleet" / "ray.pid").alive


def _free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
