"""How signals end a run: whatever it says, and wherever its output goes, its subscribers hear the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from streamer.labels.subscriber import Subscriber
from tools.peers.program import free_port

from .test_cli import SCRIPTED, environment

Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start a run that publishes at a port, with its output there; it ends with the test."""
    started = []

    def start(port: int, out: int, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        labels = ("--publish", f"tcp://127.0.0.1:{port}", "--set", "control=null")
        command = [*prefix, sys.executable, "-m", "streamer", "run", "pattern://swipe", *SCRIPTED, *labels]
        started.append(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(), start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def heard_after(port: int, act: Callable[[], object]) -> list[str]:
    """What a subscriber hears after something was done while an event was open, until the stream has stopped."""
    with Subscriber(f"tcp://127.0.0.1:{port}", kinds=["event", "status"], timeout_s=60) as subscriber:
        messages = iter(subscriber)
        while getattr(next(messages), "type", None) != "start":
            pass
        act()
        heard: list[str] = []
        while "stopped" not in heard:
            message = next(messages)
            heard.append(str(getattr(message, "reason", None) or getattr(message, "source", None)))
        return heard


def test_a_hang_up_closes_open_events_and_ends_cleanly(begin: Begin) -> None:
    port = free_port()
    process = begin(port, subprocess.DEVNULL)
    assert "shutdown" in heard_after(port, lambda: process.send_signal(signal.SIGHUP))
    assert process.wait(30) == 0


def test_a_terminal_that_is_gone_does_not_keep_the_end_from_the_subscribers(begin: Begin) -> None:
    ours, theirs = os.openpty()
    port = free_port()
    process = begin(port, theirs)
    os.close(theirs)

    def hang_up() -> None:
        os.close(ours)  # from now on writing to the terminal is an error
        process.send_signal(signal.SIGHUP)
        with suppress(ProcessLookupError):  # a shell sends another one
            process.send_signal(signal.SIGHUP)

    assert "shutdown" in heard_after(port, hang_up)
    assert process.wait(30) == 0


def test_a_run_under_nohup_outlives_the_hang_up(begin: Begin) -> None:
    port = free_port()
    process = begin(port, subprocess.DEVNULL, ("nohup",))
    with Subscriber(f"tcp://127.0.0.1:{port}", kinds=["score"], timeout_s=60) as subscriber:
        messages = iter(subscriber)
        next(messages)
        process.send_signal(signal.SIGHUP)
        for _ in range(10):
            next(messages)
    assert process.poll() is None
