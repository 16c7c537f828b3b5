"""The examples, and the loops that the documentation shows, run as they are."""

from __future__ import annotations

import ast
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamer.labels.events import Event
from streamer.labels.publisher import Publisher
from streamer.view.auth import claim
from streamer.view.server import PageServer
from tests.streamer.labels.peers import ANY_PORT, STAMP, moments
from tests.streamer.view.peers import Speaker
from tests.tools.docs.pages import ROOT, fences

Spawn = Callable[..., subprocess.Popen[str]]
LOOPS = [(page, code) for page, code in fences("python") if "kinds=" in code and page != "python.md"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started = []

    def spawn(*arguments: str, program: str = "") -> subprocess.Popen[str]:
        command = [program, *arguments] if program else [sys.executable, "-u", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT))
        return started[-1]

    yield spawn
    for process in started:
        process.kill()
        process.communicate()


class Receiver(ThreadingHTTPServer):
    """A web address that keeps what is posted, as soon as `open` is set."""

    def __init__(self) -> None:
        self.got: list[dict[str, object]] = []
        self.asked, self.open = threading.Event(), threading.Event()
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.asked.set()
                received.open.wait(30)
                received.got.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_close(self) -> None:
        self.open.set()
        self.shutdown()
        super().server_close()


def started(number: int) -> Event:
    return Event("start", f"wave {number}", 1, 0.75, 0.8125, 1_700_000_000_000_000 + number)


def test_a_receiver_that_is_too_slow_costs_the_oldest_events_and_is_told(spawn: Spawn) -> None:
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher, Receiver() as receiver:
        hook = spawn("examples/webhook.py", f"http://127.0.0.1:{receiver.server_port}/", publisher.address)
        sent = 0
        for _ in moments():
            publisher.poll()
            publisher.send(publisher.build.event("cam1", STAMP, started(sent)))
            sent += 1
            if receiver.asked.is_set():
                break
        for _ in range(150):
            publisher.send(publisher.build.event("cam1", STAMP, started(sent)))
            sent += 1
        assert hook.stderr
        dropped = [hook.stderr.readline() for _ in range(40)]
        assert all(re.search(r"cam1 start wave \d+: dropped, the receiver is too slow", line) for line in dropped)
        receiver.open.set()
        for _ in moments():
            if receiver.got and receiver.got[-1]["label"] == f"wave {sent - 1}":
                break
        assert len(receiver.got) <= 102  # those that waited, the one under way
        assert {"kind", "type", "label", "peak"} <= receiver.got[0].keys()
        hook.send_signal(signal.SIGINT)
        hook.communicate(timeout=30)
        assert hook.returncode == 0


def test_a_receiver_that_is_away_is_told_and_nothing_ends(spawn: Spawn) -> None:
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher:
        hook = spawn("examples/webhook.py", "http://127.0.0.1:1/", publisher.address)
        assert hook.stderr
        told: list[str] = []
        threading.Thread(target=lambda: told.append(hook.stderr.readline()), daemon=True).start()  # type: ignore[union-attr]
        for number, _ in enumerate(moments()):
            publisher.poll()
            publisher.send(publisher.build.event("cam1", STAMP, started(number)))
            if told:
                break
        assert "Connection refused" in told[0]
        assert hook.poll() is None


def test_a_call_that_makes_no_sense_shows_how_it_is_called(spawn: Spawn) -> None:
    for arguments in ((), ("ftp://x",), ("http://a", "b", "c")):
        _, err = spawn("examples/webhook.py", *arguments).communicate(timeout=60)
        assert "python webhook.py URL [ADDRESS]" in err
        assert "Traceback" not in err


@pytest.mark.parametrize("name", ["subscribe.py", *[f"{page} {number}" for number, (page, _) in enumerate(LOOPS)]])
def test_a_loop_prints_the_peak_and_ends_cleanly_on_ctrl_c(name: str, spawn: Spawn) -> None:
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher:
        if name == "subscribe.py":
            loop = spawn("examples/subscribe.py", publisher.address)
        else:
            code = LOOPS[int(name.split()[1])][1].replace("tcp://127.0.0.1:5557", publisher.address)
            loop = spawn("-c", code.replace('streams=["door"]', 'streams=["cam1"]'))
        said: list[str] = []
        threading.Thread(target=lambda: said.append(loop.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        for _ in moments():
            publisher.poll()
            publisher.send(publisher.build.event("cam1", STAMP, started(1)))
            if said:
                break
        assert "cam1" in said[0]
        assert "0.8125" in said[0]
        loop.send_signal(signal.SIGINT)
        _, err = loop.communicate(timeout=30)
        assert (loop.returncode, err) == (0, "")


def test_a_model_in_ones_own_program_prints_what_its_page_shows(spawn: Spawn) -> None:
    page = (ROOT / "docs/tasks/use_a_model.md").read_text(encoding="utf-8")
    (code, *_) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    shown = re.search(r"^prints, of the drawn scene `(\S+)`,\n\n((?:    .*\n)+)", page, re.M)
    assert shown
    out, err = spawn("-c", code.replace("clip.mp4", shown[1])).communicate(timeout=120)
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    for line in shown[2].splitlines():
        time_s, *_, score = words = line.split()
        (found,) = (found for found in lines if found[0] == time_s)
        assert found[:-1] == words[:-1]
        assert float(found[-1]) == pytest.approx(float(score), abs=0.05)  # another processor, other last digits


def test_a_webcam_of_ones_own_is_read_as_its_page_shows(write_video: Callable[..., Path], spawn: Spawn) -> None:
    page = (ROOT / "docs/tasks/use_a_model.md").read_text(encoding="utf-8")
    _, code, *_ = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    clip = str(write_video(count=20))
    code = f"{code.replace('VideoCapture(0)', f'VideoCapture({clip!r})')}print(logits.shape)\n"
    out, err = spawn("-c", code).communicate(timeout=120)
    assert (out, err) == ("(1, 10)\n", "")


def test_a_program_without_zeromq_follows_the_events_over_http_and_a_page_that_starts_anew(spawn: Spawn) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here; `make test` installs it")
    with PageServer(claim("127.0.0.1:0")) as page:
        speaker, url = Speaker(page), page.url
        speaker.status()
        waving = speaker.start("wave")
        example = spawn("examples/events.mjs", url, program=node)
        assert example.stdout
        assert example.stderr
        assert example.stdout.readline() == "cam start wave 0.9\n"
        speaker.end(waving)
        assert example.stdout.readline().startswith("cam end wave ")
    assert "asked again in a second" in example.stderr.readline()
    with PageServer(claim(url.split("/")[2])) as page:
        Speaker(page).start("nod")
        assert example.stdout.readline() == "cam start nod 0.9\n"
    told = iter(example.stderr.readline, "")
    assert next(line for line in told if "asked again" not in line).startswith("events are missing")


def test_the_bridge_to_ros_is_python_and_names_kinds_of_messages_that_there_are() -> None:
    """ROS is not here, so it is not run."""
    import streamer

    tree = ast.parse((ROOT / "examples/ros2_bridge.py").read_text(encoding="utf-8"), feature_version=(3, 10))
    ours = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "streamer"]
    assert {name.name for node in ours for name in node.names} <= set(streamer.__all__)
