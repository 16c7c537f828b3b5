"""A decoder that crashes under a running program: with `capture: process` it costs a connection, without it the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer.labels.messages import EventMessage, GapMessage, Message, StatusMessage
from streamer.labels.subscriber import Subscriber
from tests.conftest import WaitFor
from tools.cameras import HttpCamera

from ..commands.test_cli import ANY_PORT, SCRIPTED, command, environment, line_with
from ..health.monitored import get
from ..view.test_process import alive

# imported by every Python that starts with it on its path: a frame reads from address 0 when a file appears
FAULTY = """
import ctypes, pathlib
from streamer.sources import video

hides = video.Damage.hides
trigger = pathlib.Path(__file__).with_name("crash")

def faulty(*arguments):
    if trigger.exists():
        trigger.unlink()
        ctypes.string_at(0)
    return hides(*arguments)

video.Damage.hides = faulty
"""


@pytest.fixture
def run(tmp_path: Path, http_camera: Callable[[], HttpCamera]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run the program on an HTTP camera, with a decoder that crashes when `tmp_path / "crash"` appears."""
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    started = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command("run", http_camera().url(), *SCRIPTED, *arguments),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment() | {"PYTHONPATH": path},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def mark(message: Message) -> str:
    reconnected = isinstance(message, StatusMessage) and message.source == "online" and message.reconnects == 1
    return "reconnected" if reconnected else message.kind


def test_a_crash_in_a_process_is_told_counted_and_mended(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]]
) -> None:
    process = run("--set", "capture=process", *ANY_PORT, "--metrics", "127.0.0.1:0")
    metrics = line_with(process, "metrics ").split("/")[2]
    address = line_with(process, "labels  ").split()[1]
    seen: list[Message] = []
    with Subscriber(address, kinds=["event", "gap", "status"], timeout_s=60) as subscriber:
        for message in subscriber:
            if isinstance(message, EventMessage) and message.type == "start" and not seen:
                (tmp_path / "crash").touch()
            elif not seen:
                continue
            seen.append(message)
            if {"reconnected", "gap"} <= {mark(message) for message in seen}:
                break
    ends = [message for message in seen if isinstance(message, EventMessage) and message.type == "end"]
    assert ends[0].reason == "gap"
    offline = next(message for message in seen if isinstance(message, StatusMessage) and message.source == "offline")
    assert "the decoder crashed: SIGSEGV; connecting again" in offline.detail
    (gap,) = (message for message in seen if isinstance(message, GapMessage))
    assert (gap.reason, gap.epoch) == ("reconnect", 1)
    assert b'streamer_decoder_crashes_total{stream="127-0-0-1' in get(metrics, "/metrics")[1]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    line = err.splitlines()[0]
    assert "the decoder crashed: SIGSEGV; Fatal Python error: Segmentation fault" in line
    assert "in faulty" in line


def test_a_program_that_is_killed_takes_its_capture_processes_with_it(
    run: Callable[..., subprocess.Popen[str]], write_video: Callable[..., Path], wait_for: WaitFor
) -> None:
    resting = write_video(pts=[0, 30 * 3600])
    process = run(resting, "--set", "capture=process", "--no-publish")
    for _ in range(2):
        line_with(process, "source  online")
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    captures = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    assert len(captures) == 2
    process.kill()
    wait_for(lambda: not any(map(alive, captures)))


def test_a_crash_in_a_thread_ends_the_program_and_says_where(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]]
) -> None:
    process = run("--no-publish")
    line_with(process, "source  online")
    (tmp_path / "crash").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGSEGV
    assert err.startswith("Fatal Python error: Segmentation fault")
    crashed = err.partition("(most recent call first):\n")[2].partition("\n\n")[0]
    assert "in faulty" in crashed
    assert "streamer/sources/reader.py" in crashed
