from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streamer.health.systemd import ServiceManager

from ..commands.test_cli import ANY_PORT, SCRIPTED, command, environment, streamer
from ..pipeline.test_pipeline import Camera
from .monitored import monitored

WaitFor = Callable[[Callable[[], Any]], None]


class Manager:
    """The socket that systemd listens on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(60)

    def hears(self) -> str:
        return self._socket.recv(100).decode()

    def has_heard(self) -> list[str]:
        """What has come and was not read yet."""
        heard = []
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                heard.append(self.hears())
        self._socket.settimeout(60)
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify") if request.param == "path" else f"@streamer-{uuid.uuid4()}")
    yield listening
    listening.close()


def test_ready_is_told_once_then_signs_of_life_at_half_of_the_watchdogs_time(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    service = ServiceManager({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000"})
    heard = []
    for _ in range(16):
        service.alive()
        heard += [(now - 1000, word) for word in manager.has_heard()]
        now += 0.25
    service.stopping()
    assert heard == [(0, "READY=1"), (1.5, "WATCHDOG=1"), (3.0, "WATCHDOG=1")]
    assert manager.has_heard() == ["STOPPING=1"]


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}]
)
def test_a_watchdog_that_is_off_or_meant_for_another_process_hears_nothing(
    manager: Manager, watchdog: dict[str, str]
) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.address, **watchdog})
    for _ in range(3):
        service.alive()
    assert manager.has_heard() == ["READY=1"]


def test_a_watchdog_of_this_process_is_fed(manager: Manager) -> None:
    mine = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid())}
    service = ServiceManager(mine)
    for _ in range(2):
        service.alive()
        time.sleep(0.001)
    assert manager.has_heard() == ["READY=1", "WATCHDOG=1"]


def test_a_manager_that_does_not_read_delays_the_word_and_stops_nothing(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", manager.address)
    service = ServiceManager({"NOTIFY_SOCKET": manager.address})
    service.alive()
    assert "READY=1" not in manager.has_heard()
    service.alive()
    assert manager.has_heard() == ["READY=1"]
    manager.close()


def test_a_manager_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nothing"), "WATCHDOG_USEC": "1"})
    for _ in range(5):
        service.alive()
    service.stopping()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No such file" in caplog.text


def test_without_a_manager_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    service = ServiceManager({})
    service.alive()
    service.stopping()
    assert caplog.text == ""


def test_the_command_is_ready_alive_and_stopping_for_its_manager(manager: Manager) -> None:
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    arguments = ("run", "pattern://swipe", "--headless", *SCRIPTED, *ANY_PORT)
    with subprocess.Popen(command(*arguments), env=environment() | variables) as process:
        assert [manager.hears() for _ in range(4)] == ["READY=1", *["WATCHDOG=1"] * 3]
        process.send_signal(signal.SIGTERM)
        while (word := manager.hears()) == "WATCHDOG=1":
            pass
        assert word == "STOPPING=1"
    assert process.returncode == 0


def test_a_hung_engine_is_not_alive_though_its_cameras_are(
    wait_for: WaitFor, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"})
    camera = Camera()
    with monitored(camera) as running:
        monkeypatch.setattr(running.pipeline, "_manager", service)
        assert [manager.hears() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
        running.engine.free.clear()
        wait_for(running.engine.inside.is_set)
        manager.has_heard()
        ring = running.pipeline.streams[0].ring
        wait_for(lambda: len(ring) >= 3)  # 0.3 s of frames, thirty times what the watchdog waits for
        assert manager.has_heard() == []
        running.engine.free.set()
        assert manager.hears() == "WATCHDOG=1"


UNIT = Path("configs/streamer.service")
PROGRAM = "/opt/streamer/bin/streamer"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", [UNIT, Path("configs/fleet-head.service"), Path("configs/fleet-node.service")])
def test_the_example_units_are_ones_that_systemd_understands(tmp_path: Path, unit: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(PROGRAM, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert unit.name not in done.stderr


@pytest.mark.parametrize("kind", ["head", "node"])
def test_the_commands_of_a_fleets_units_are_ones_that_the_program_understands(kind: str) -> None:
    unit = Path(f"configs/fleet-{kind}.service").read_text().replace("\\\n", " ")
    started = next(line for line in unit.splitlines() if line.startswith(f"ExecStart={PROGRAM} "))
    done = streamer(*started.split()[1:])
    assert done.returncode == 2
    assert "/etc/streamer/" in done.stderr  # the file that is not here


def test_the_command_of_the_example_unit_is_one_that_the_program_understands() -> None:
    started = next(line for line in UNIT.read_text().splitlines() if line.startswith(f"ExecStart={PROGRAM} "))
    arguments = started.partition(" ")[2].replace("/etc/streamer/cameras.yaml", "configs/four_cameras.yaml").split()
    done = streamer(*arguments, "--set", "nothing=1")
    assert done.returncode == 2
    assert "nothing (from command line --set nothing): there is no such key" in json.loads(done.stderr)["message"]
