from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from engines.loading import find_models
from engines.spec import read_spec
from streamer.health.logs import JsonFormatter, TextFormatter

from ..commands.test_cli import environment, streamer

PASSWORD = "S3cr3t%40pw"
CAMERA = f"rtsp://user:{PASSWORD}@camera/stream"

EVERYTHING = """
import logging, sys, threading, warnings
from streamer.health import logs
camera = sys.argv[2]
logs.set_up(sys.argv[1])

def fail():
    try:
        raise OSError(f"cannot reach {camera}")
    except OSError as error:
        raise RuntimeError(f"no picture of {camera}") from error

class Undying:
    def __del__(self):
        fail()

logging.getLogger("some.library").error("lost %s", camera)
logging.getLogger("streamer.part").warning("%s is slow", camera, extra={"stream": "door"})
warnings.warn(f"{camera} is old")
for name in ("worker", "capture door"):
    thread = threading.Thread(target=fail, name=name)
    thread.start()
    thread.join()
Undying()
logging.getLogger("streamer.part").error("%s and %s", camera)  # an argument is missing
"""

UNEXPECTED = """
import sys
from streamer.commands import main, run
def make_engine(config):
    raise RuntimeError(f"the driver says {config.sources[0].uri}")
run.make_engine = make_engine
main()
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip


def test_whatever_fails_is_one_json_object_a_line_and_names_its_stream() -> None:
    done = python(EVERYTHING, "json", CAMERA)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]
    assert PASSWORD not in done.stderr
    assert [(line["logger"], line["level"], line.get("stream")) for line in lines] == [
        ("some.library", "error", None),
        ("streamer.part", "warning", "door"),
        ("py.warnings", "warning", None),
        ("streamer", "critical", None),
        ("streamer", "critical", "door"),
        ("streamer", "error", None),
    ]
    assert lines[0]["message"] == "lost rtsp://***@camera/stream"
    assert lines[3]["message"] == "an error ended the thread worker"
    for line in lines[3:]:
        assert "OSError: cannot reach rtsp://***@camera/stream" in line["exception"]
        assert "RuntimeError: no picture of rtsp://***@camera/stream" in line["exception"]
    assert all(line["ts"].endswith("+00:00") for line in lines)


def test_as_text_everything_is_there_too_and_nothing_secret() -> None:
    done = python(EVERYTHING, "text", CAMERA)
    assert PASSWORD not in done.stderr
    assert "ERROR some.library: lost rtsp://***@camera/stream\n" in done.stderr
    assert "WARNING streamer.part: rtsp://***@camera/stream is slow\n" in done.stderr
    assert "streamer: an error ended the thread worker\nTraceback" in done.stderr
    assert done.stderr.count("RuntimeError: no picture of rtsp://***@camera/stream\n") == 3


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_error_that_nobody_expected_is_told_with_its_traceback_and_without_the_password(style: str) -> None:
    done = python(UNEXPECTED, "run", CAMERA, "--log", style)
    assert done.returncode == 1
    assert PASSWORD not in done.stdout + done.stderr
    assert "RuntimeError: the driver says rtsp://***@camera/stream" in done.stderr
    assert ("Traceback" in done.stderr.splitlines()[0]) == (style == "json")


def test_an_error_that_was_expected_is_one_json_object_with_its_exit_code() -> None:
    done = streamer("run", CAMERA.replace("camera/", "camera:99999/"), "--log", "json")
    assert done.returncode == 3
    line = json.loads(done.stderr)
    assert (line["level"], line["logger"]) == ("error", "streamer")
    assert "malformed" in line["message"]
    assert PASSWORD not in done.stderr


def test_a_style_that_there_is_not_is_told() -> None:
    done = streamer("run", "pattern://swipe", "--log", "xml")
    assert (done.returncode, done.stderr) == (2, "streamer: --log xml: there is no such style; use text or json\n")


def test_news_of_the_sources_are_for_machines_only() -> None:
    arguments = ("run", "pattern://swipe", "--backend", "scripted", "--no-publish", "--headless", "--duration", 1)
    told = [json.loads(line) for line in streamer(*arguments, "--log", "json").stderr.splitlines()]
    lines = [line for line in told if line["message"] != "source connecting"]  # if it was looked at before a frame came
    version = read_spec(find_models()["default"]).version
    assert [line["message"].split(":")[0] for line in lines] == [f"model {version}", "source online", "stopped"]
    assert [line.get("stream") for line in lines] == [None, "swipe", None]
    assert streamer(*arguments).stderr == ""


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_what_steers_a_terminal_or_ends_a_line_stays_in_its_record(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "one\ntwo\x1b[2J", None, None)
    line = formatter.format(record)
    assert "\x1b" not in line
    assert len(line.splitlines()) == 1
