"""`streamer run`: what it prints, and what it does about addresses and files."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamer.commands.run import check_free
from streamer.config import Config
from streamer.errors import ConfigError

from .test_cli import ANY_PORT, SCRIPTED, line_with, start, streamer

__all__ = ["start"]


def test_a_run_prints_events_and_sources_each_once_in_the_order_of_time() -> None:
    done = streamer("run", "pattern://swipe", "--duration", 5, *SCRIPTED, *ANY_PORT)
    news = re.findall(r"^(\S+Z)  swipe  (.*)$", done.stdout, re.M)
    assert {text.split()[0] for _, text in news} == {"source", "start", "end"}
    assert [time for time, _ in news] == sorted(time for time, _ in news)
    sources = [text.split()[1] for _, text in news if text.startswith("source")]
    assert [told for told in sources if told != "connecting"] == ["online", "stopped"]
    assert "still" not in done.stdout  # the background of the model


def test_a_verbose_run_prints_the_label_in_force_too() -> None:
    done = streamer("run", "pattern://swipe", "--duration", 3, "-v", *SCRIPTED, "--no-publish")
    assert re.search(r"swipe  label   \w", done.stdout)


def test_the_first_lines_are_plain_words_and_the_command_to_watch_is_whole() -> None:
    done = streamer("run", "pattern://swipe", "--duration", 1, *ANY_PORT)
    assert re.search(r"^backend \w+ \(.*\)$", done.stdout, re.M)
    address = re.search(r"^labels  (\S+) ", done.stdout, re.M)
    assert address
    assert f"(in another terminal: streamer watch {address[1]})" in done.stdout


def test_all_addresses_that_are_taken_are_named_and_free_ones_with_them() -> None:
    with ExitStack() as stack:
        ports = []
        for _ in range(2):
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports.append(taken.getsockname()[1])
        labels, page = (f"127.0.0.1:{port}" for port in ports)
        settings = {"publish": {"address": f"tcp://{labels}"}, "view": {"address": page}, "metrics": "127.0.0.1:0"}
        with pytest.raises(ConfigError, match=f"another program uses tcp://{labels} and {page}; stop it") as told:
            check_free(Config.model_validate(settings))
    free = re.findall(r"--(?:publish|view) \S+:(\d+)", str(told.value))
    assert [int(port) > before for port, before in zip(free, ports, strict=True)] == [True, True]
    check_free(Config.model_validate(settings))  # now they are free


def test_a_file_is_played_again_and_again_until_the_run_ends(
    start: Callable[..., subprocess.Popen[str]], write_video: Callable[..., Path]
) -> None:
    process = start("run", write_video(count=10), "--loop", *SCRIPTED, "--no-publish")
    for _ in range(3):
        line_with(process, "(gap)")  # its end and its beginning do not belong together
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert int(re.findall(r"frames  (\d+) captured", out)[0]) > 30


def test_a_camera_that_never_answers_is_no_warning_at_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        camera = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        done = streamer("run", camera, "--duration", 1, "--no-publish", "--set", "sources.0.open_s=30")
    assert done.returncode == 3
    assert [line for line in done.stderr.splitlines() if "no source gave a frame" not in line] == []
