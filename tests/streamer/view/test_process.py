"""The page beside a running program, as `streamer run --view` and `streamer view` serve it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streamer.commands.view import DEFAULT_ADDRESS, with_view_address
from tests.http_bytes import upgrade

from ..commands.test_cli import ANY_PORT, SCRIPTED, line_with, start, streamer
from ..test_web import asked
from .peers import Viewer, opened

__all__ = ["start"]  # a fixture

TOKEN = "a token of ours"
WaitFor = Callable[[Callable[[], bool]], None]
Start = Callable[..., "subprocess.Popen[str]"]


@dataclass
class Address:
    url: str


def page_of(process: subprocess.Popen[str]) -> Address:
    """Where a program says that its page is."""
    found = re.search(r"http://\S+/", line_with(process, "view    "))
    assert found
    return Address(found[0])


def children(process: subprocess.Popen[str]) -> list[int]:
    """Processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def no_page_stays(wait_for: WaitFor) -> Iterator[list[int]]:
    pages: list[int] = []
    yield pages
    wait_for(lambda: not any(map(alive, pages)))


def test_a_view_is_shown_in_the_picture_of_its_camera(start: Start, no_page_stays: list[int]) -> None:
    views = "sources.0.views={half: [0, 0, 0.5, 1]}"
    source = "pattern://still?fps=10&size=320x240"
    page = page_of(process := start("run", source, *SCRIPTED, *ANY_PORT, "--view", "127.0.0.1:0", "--set", views))
    line_with(process, "source  online")
    no_page_stays += children(process)
    with Viewer(page) as viewer:
        viewer.say(look={"still-half": 320})
        stream, jpeg = viewer.picture()
        shown = opened(jpeg).astype(float)
        assert (stream, shown.shape) == ("still-half", (240, 320, 3))
        assert shown[20:-20, 200:300].mean() < 0.7 * shown[20:-20, 20:120].mean()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_a_run_shows_its_pictures_and_the_labels_it_publishes(start: Start, no_page_stays: list[int]) -> None:
    process = start("run", "pattern://swipe?fps=10", *SCRIPTED, *ANY_PORT, "--view", "127.0.0.1:0")
    page = page_of(process)
    told = line_with(process, "start   moving left")
    no_page_stays += children(process)
    with Viewer(page) as viewer:
        labels = viewer.labels()
        assert next(labels)["pictures"] is True
        event = next(message for message in labels if message["kind"] == "event")
        assert (event["stream"], event["type"], event["label"]) == ("swipe", "start", "moving left")
        assert f"{event['peak']:.2f}" in told
        viewer.say(look={"swipe": 320})
        stream, jpeg = viewer.picture()
        assert (stream, opened(jpeg).shape) == ("swipe", (240, 320, 3))
        newer = jpeg
        while newer == jpeg:  # the pattern stands still at times
            viewer.say(seen="swipe")
            newer = viewer.picture()[1]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_what_outsiders_send_is_no_line_in_the_log_and_the_pages_process_logs_in_the_chosen_style(start: Start) -> None:
    process = start(
        "run", "pattern://swipe?fps=10", *SCRIPTED, "--no-publish", "--view", "127.0.0.1:0", "--log", "json"
    )
    page = page_of(process)
    host, port = urlsplit(page.url).netloc.split(":")
    for said in (
        b"\x16\x03\x01garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        upgrade("x", "http://["),
    ):
        assert b"500" not in asked((host, int(port)), said).partition(b"\r\n")[0]
    (child,) = children(process)
    os.kill(child, signal.SIGINT)  # a surprise that ends the page's process
    line_with(process, "start   moving left")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["message"] for line in lines if "exception" in line] == ["an error ended the program"]


def test_a_program_that_is_killed_takes_its_page_with_it(start: Start, no_page_stays: list[int]) -> None:
    process = start("run", "pattern://swipe?fps=10", *SCRIPTED, "--no-publish", "--view", "127.0.0.1:0")
    with Viewer(page_of(process)) as viewer:
        assert next(viewer.labels())["kind"] == "view"
    no_page_stays += children(process)
    assert no_page_stays
    process.kill()


def test_a_page_that_is_killed_does_not_stop_the_recognition(start: Start, wait_for: WaitFor) -> None:
    process = start("run", "pattern://swipe?fps=10", *SCRIPTED, "--no-publish", "--view", "127.0.0.1:0")
    line_with(process, "start   moving left")
    (page,) = children(process)
    os.kill(page, signal.SIGKILL)
    line_with(process, "start   ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_view_shows_the_labels_of_a_publisher_elsewhere(start: Start) -> None:
    publisher = start("run", "pattern://swipe?fps=10", *SCRIPTED, *ANY_PORT)
    address = line_with(publisher, "labels  ").split()[1]
    process = start("view", address, "--listen", "127.0.0.1:0", "--view-token", TOKEN)
    with Viewer(page_of(process), TOKEN) as viewer:
        labels = viewer.labels()
        assert next(labels)["pictures"] is False
        assert next(message for message in labels if message["kind"] == "event")["stream"] == "swipe"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "pattern://swipe", "--view", "0.0.0.0:0", "--headless"], "needs a token"),
        (["run", "pattern://swipe", "--view", "127.0.0.1"], "is not HOST:PORT"),
        (["run", "pattern://swipe", "--view-token", TOKEN], "no page to protect; add --view"),
        (["run", "pattern://swipe", "--view", "127.0.0.1:0", "--view-token", "secret1"], "at least 8 characters"),
        (["run", "pattern://swipe", "--set", "view.token=1234567"], "view.token is given, but no page"),
        (["run", "pattern://swipe", "pattern://still", "--window"], "--window shows one stream, not 2"),
        (["view", "localhost"], "is not an address"),
        (["replay", "pattern://swipe?duration=1", "--render", "no/such/folder.mp4"], "does the folder exist"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line_without_the_token(arguments: list[str], message: str) -> None:
    done = streamer(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    for token in (TOKEN, "secret1", "1234567"):
        assert token not in done.stderr + done.stdout


def test_the_configuration_is_shown_without_the_token() -> None:
    done = streamer("config", STREAMER_VIEW__TOKEN=TOKEN)
    assert "view.token: '**********'  # environment STREAMER_VIEW__TOKEN" in done.stdout
    assert TOKEN not in done.stdout


def test_a_video_is_replayed_with_its_labels_drawn_in(tmp_path: Path) -> None:
    done = streamer("replay", "pattern://swipe?duration=1", "--render", tmp_path / "out.mp4", *SCRIPTED)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["run", "0", "--view"], ["run", "0", "--view", DEFAULT_ADDRESS]),
        (["run", "--view", "0"], ["run", "--view", DEFAULT_ADDRESS, "0"]),
        (["run", "--view", "pattern://swipe"], ["run", "--view", DEFAULT_ADDRESS, "pattern://swipe"]),
        (["run", "--view", "--headless", "0"], ["run", "--view", DEFAULT_ADDRESS, "--headless", "0"]),
        (["run", "0", "--view", "0.0.0.0:80"], ["run", "0", "--view", "0.0.0.0:80"]),
        (["run", "0", "--view=[::1]:80"], ["run", "0", "--view=[::1]:80"]),
        (["view", "tcp://127.0.0.1:5557"], ["view", "tcp://127.0.0.1:5557"]),
        (["bridge", "exec", "--", "show", "--view"], ["bridge", "exec", "--", "show", "--view"]),
        ([], []),
    ],
)
def test_the_address_of_the_view_may_be_left_out(written: list[str], meant: list[str]) -> None:
    assert with_view_address(written) == meant
