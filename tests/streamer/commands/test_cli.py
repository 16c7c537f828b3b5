"""The command itself, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines import find_models
from streamer.commands import app
from streamer.labels.subscriber import Subscriber
from tests.conftest import needs_torch
from tools.cameras import HttpCamera, RtspServer
from tools.docs.commands import commands

SCRIPTED = ("--backend", "scripted")  # plays every label in turn, so that events come whatever the network would say
ANY_PORT = ("--publish", "tcp://127.0.0.1:*")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "streamer", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Ours, without what would configure the program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}


def streamer(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, env=environment() | variables, check=False
    )


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in the background; it ends with the test."""
    started = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The next line of the process's output that has the text."""
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return line.strip()
    raise AssertionError(f"the process ended without saying {text!r}: {process.communicate()}")


def test_run_shows_the_address_the_news_and_a_summary() -> None:
    done = streamer("run", "pattern://swipe", "--duration", 3, *SCRIPTED, *ANY_PORT)
    assert done.returncode == 0, done.stderr
    for part in ("model   default@", "labels  tcp://127.0.0.1:", "source  online", "start   moving left", "(shutdown)"):
        assert part in done.stdout
    assert "dropped: " in done.stdout
    assert "step    p50" in done.stdout
    assert "age     p50" in done.stdout
    assert done.stderr == ""


def test_run_headless_says_nothing_but_works() -> None:
    done = streamer("run", "pattern://swipe", "--duration", 1, "--headless", "--no-publish")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_is_run_to_its_end(write_video: Callable[..., Path]) -> None:
    done = streamer("run", write_video(count=30), "--no-publish")
    assert done.returncode == 0, done.stderr
    assert "30 captured, 10 inferred" in done.stdout
    assert "source  ended" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_closes_open_events_and_ends_cleanly(
    start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = start("run", "pattern://swipe", *SCRIPTED, *ANY_PORT)
    address = line_with(process, "labels  ").split()[1]
    with Subscriber(address, kinds=["event", "status"], timeout_s=30) as subscriber:
        messages = iter(subscriber)
        while (message := next(messages)).kind != "event" or message.type != "start":  # type: ignore[union-attr]
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert err == ""
        assert "(shutdown)" in out
        seen: list[tuple[str, str | None]] = []
        while not seen or seen[-1] != ("status", "stopped"):
            message = next(messages)
            seen.append((message.kind, getattr(message, "reason", None) or getattr(message, "source", None)))
        assert ("event", "shutdown") in seen


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run"], 2, "no source is given"),
        (["run", "pattern://swipe", "--set", "evnts.enter=1"], 2, "did you mean events?"),
        (["run", "pattern://swipe", "-c", "nothing.yaml"], 2, "nothing.yaml cannot be read"),
        (["run", "pattern://swipe", "--backend", "cuda"], 2, "should be 'auto', 'openvino'"),
        (["run", "pattern://swipe", "--publish", "127.0.0.1:5557"], 2, "is not an address"),
        (["run", "pattern://swipe", "--publish", "tcp://127.0.0.1:5557", "--no-publish"], 2, "exclude each other"),
        (["run", "pattern://swipe", "--set", "events.background=[stil]"], 2, "did you mean 'still'?"),
        (["run", "pattern://swipe", "--metrics", "9464"], 2, "metrics: '9464' is not HOST:PORT"),
        (["run", "nothing.mp4"], 3, "nothing.mp4"),
        (["run", "rtp://camera/1"], 3, "did you mean rtsp://"),
        (["run", "pattern://swipe?speed=3"], 3, "speed"),
        (["run", "."], 3, "directory; give one video file"),
        (["run", "pattern://swipe", "--loop"], 2, "--loop is for files"),
        (["replay", __file__, "--set", "sources.0.loop=true"], 2, "loop plays in real time"),
        (["run", __file__, "--no-publish"], 3, "test_cli.py"),
        (["replay", "pattern://swipe", "--out", "-"], 3, "never ends"),
        (["replay", "nothing.mp4", "--out", "-"], 3, "nothing.mp4"),
        (["run", "pattern://swipe", "--model", "defualt"], 4, "no model is called 'defualt'"),
        (["run", "pattern://swipe", "--model", "nothing.onnx"], 4, "no such model file"),
        pytest.param(
            ["models", "import", "nothing.pth", "--out", "x"], 4, "nothing.pth: cannot be read", marks=needs_torch
        ),
        (["watch", "localhost"], 2, "is not an address"),
        (["watch", "tcp://127.0.0.1:5557", "--kind", "evnt"], 2, "there is no such kind"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_with_its_exit_code(
    arguments: list[str], code: int, message: str
) -> None:
    done = streamer(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("streamer: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("damage", ["no sidecar", "truncated", "text", "other sidecar"])
def test_a_damaged_model_is_one_sentence_and_exit_code_4(tmp_path: Path, damage: str) -> None:
    shipped = find_models()["default"]
    model = Path(shutil.copy(shipped.with_suffix(".onnx"), tmp_path / "default.onnx"))
    if damage != "no sidecar":
        shutil.copy(shipped, tmp_path / "default.json")
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:1000])
    if damage == "text":
        model.write_text("hello")
    if damage == "other sidecar":
        sidecar = json.loads(shipped.read_text())
        (tmp_path / "default.json").write_text(json.dumps(sidecar | {"files": {"other.onnx": "00" * 32}}))
    done = streamer("run", "pattern://swipe", "--model", model)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "default.onnx" in done.stderr


def test_an_address_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = streamer("run", "pattern://swipe", "--publish", address)
    assert done.returncode == 2
    assert address in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_camera_that_never_gave_a_frame_is_an_error_in_the_end() -> None:
    done = streamer("run", "rtsp://me:secret@127.0.0.1:1/x", "--duration", 1, "--no-publish")
    assert done.returncode == 3
    assert "no source gave a frame" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_replay_writes_the_same_bytes_every_time(tmp_path: Path) -> None:
    outs = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for out in outs:
        done = streamer("replay", "pattern://swipe?duration=8", "--out", out, *SCRIPTED)
        assert done.returncode == 0, done.stderr
    assert outs[0].read_bytes() == outs[1].read_bytes()
    events = [json.loads(line) for line in outs[0].read_text().splitlines()]
    assert {event["kind"] for event in events} == {"event"}
    assert [event["type"] for event in events].count("start") == [event["type"] for event in events].count("end")


def test_replay_can_write_every_kind_to_the_terminal_and_needs_a_place_that_exists(tmp_path: Path) -> None:
    done = streamer("replay", "pattern://swipe?duration=2", "--out", "-", "--kind", "score", "--kind", "status")
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert set(kinds) == {"score", "status"}
    done = streamer("replay", "pattern://swipe?duration=2", "--out", tmp_path / "no" / "x.jsonl")
    assert done.returncode == 2
    assert "cannot be written: No such file or directory" in done.stderr


def test_replay_without_a_place_for_the_messages_prints_the_events() -> None:
    done = streamer("replay", "pattern://swipe?duration=4", *SCRIPTED)
    lines = done.stdout.splitlines()
    assert [line.split()[2] for line in lines[:2]] == ["start", "end"]
    assert lines[0].startswith("00:00:0")  # since the first frame
    assert re.search(r": 40 frames inferred, \d events?$", done.stderr.strip())


def test_watch_prints_json_lines_for_a_pipe(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("run", "pattern://swipe", *SCRIPTED, *ANY_PORT)
    address = line_with(process, "labels  ").split()[1]
    watching = start("watch", address, "--json", "--stream", "swipe", "--kind", "state")
    message = json.loads(line_with(watching, '"label":"moving left"'))
    assert (message["stream"], message["kind"]) == ("swipe", "state")
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, err) == (0, "")


def test_check_says_what_works() -> None:
    done = streamer("check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"version   {metadata.version('action-streamer')}\n")
    for part in ("backend   openvino: ok", "backend   scripted: ok", "model     default@"):
        assert part in done.stdout


def test_models_lists_the_shipped_model_and_its_labels() -> None:
    done = streamer("models", "--labels")
    assert "default: tcm on resnet18" in done.stdout
    assert "    turning counterclockwise" in done.stdout


@pytest.mark.timeout(500)
@needs_torch
def test_a_published_checkpoint_is_imported_and_runs(tmp_path: Path) -> None:
    import torch

    from engines.networks import build_network

    online = build_network("tsm", "mobilenet_v2", 8, 27, causal=True).state_dict()
    torch.save({key.replace("fc.", "classifier."): value for key, value in online.items()}, tmp_path / "online.pth")
    model = tmp_path / "models" / "gestures"
    done = streamer("models", "import", tmp_path / "online.pth", "--out", model, "--size", 32)
    assert done.returncode == 0, done.stderr
    assert "gestures: tsm on mobilenet_v2 (width 1), 27 labels, 32x32 at 12 frames a second" in done.stdout
    assert f"streamer run 0 --model {model}.onnx" in done.stdout
    done = streamer("run", "pattern://swipe", "--duration", 1, "--no-publish", "--model", f"{model}.onnx")
    assert done.returncode == 0, done.stderr
    assert "model   gestures@" in done.stdout


def test_config_tells_where_a_value_came_from() -> None:
    done = streamer("config", "-c", "configs/webcam.yaml", "--set", "events.enter=0.7", STREAMER_BUFFER="4")
    assert "events.enter: 0.7  # command line --set events.enter" in done.stdout
    assert "buffer: 4  # environment STREAMER_BUFFER" in done.stdout
    assert "sources.0.name: webcam  # configs/webcam.yaml" in done.stdout
    assert "max_gap: 3.0  # default" in done.stdout


def test_config_tells_what_the_model_says_of_events_and_what_overrules_it(tmp_path: Path) -> None:
    sidecar = json.loads(find_models()["default"].read_text())
    sidecar["events"] = {"enter": 0.8, "unknown": 2.5, "labels": {"shaking": {"enter": 0.9}}}
    (tmp_path / "mine.json").write_text(json.dumps(sidecar))
    model = ("--set", f"model={tmp_path / 'mine.onnx'}")
    told = streamer("config", *model).stdout
    assert "events.enter: 0.8  # sidecar of default" in told
    assert "events.unknown: 2.5  # sidecar of default" in told
    assert "events.labels.shaking.enter: 0.9  # sidecar of default" in told
    assert "events.leave: 0.35  # default" in told
    told = streamer("config", *model, "--set", "events.enter=0.5", "--set", "events.unknown=off").stdout
    assert "events.enter: 0.5  # command line --set events.enter" in told
    assert "events.unknown: null  # command line --set events.unknown" in told
    assert "events.labels: {}  # default" in told
    done = streamer("config", *model, "--set", "events.preset=activity")
    assert "events.leave: 0.3  # preset activity" in done.stdout
    done = streamer("config", "--set", "model=nothing.onnx")
    assert "events.enter: 0.6  # default" in done.stdout
    assert "what the model tells of events is not among these: nothing.onnx: its sidecar" in done.stderr


def test_help_is_there_for_every_command() -> None:
    for name in ("run", "watch", "replay", "check", "models", "models import", "config", "ctl", "keygen"):
        for option in ("-h", "--help"):
            done = CliRunner().invoke(app, [*name.split(), option])
            assert done.exit_code == 0
            assert "Usage: " in done.output


def test_the_help_has_a_line_for_each_command_in_the_order_of_use_and_examples() -> None:
    done = streamer("--help", COLUMNS="80")
    table, _, examples = done.stdout.partition("Commands:")[2].partition("Examples:")
    listed = dict(re.findall(r"^  (\w+) +(\w.*)$", table, re.M))
    order = ["run", "watch", "view", "replay", "models", "init", "record", "teach", "tune", "ctl", "check"]
    assert [name for name in listed if name in order] == [name for name in order if name in listed]
    assert {name: text for name, text in listed.items() if len(text) > 60} == {}
    assert set(listed) == {name.split()[1] for name, _ in commands()}
    assert "streamer run 0 " in examples
    assert "Examples:\n    streamer replay clip.mp4 " in CliRunner().invoke(app, ["replay", "-h"]).output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []], ids=" ".join)
def test_help_and_version_import_neither_a_command_nor_a_heavy_library(arguments: list[str]) -> None:
    heavy = {"av", "cv2", "engines", "msgspec", "numpy", "openvino", "pydantic", "rich", "torch", "yaml", "zmq"}
    program = (
        "import sys; from streamer.commands import main\n"
        "try: main()\n"
        f"finally: print({heavy} & {{*sys.modules}}, *(m for m in sys.modules if m.startswith('streamer.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=240
    )
    none, *ours = done.stdout.splitlines()[-1].split()
    assert none == "set()"
    parts = {"commands", "commands.console", "commands.lazy", "errors", "health", "health.logs", "text"}
    assert {*ours} == {f"streamer.{part}" for part in parts}


def test_what_a_command_needs_is_not_imported_for_another() -> None:
    program = "import sys, streamer.commands.ctl; print({'av', 'cv2', 'openvino', 'websockets'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "set()\n"


def test_the_version_is_told() -> None:
    done = streamer("--version")
    assert (done.returncode, done.stdout) == (0, f"action-streamer {metadata.version('action-streamer')}\n")


def test_importing_the_package_is_light_and_has_no_side_effects() -> None:
    heavy = {"torch", "openvino", "cv2", "av"}
    code = f"import sys, threading, streamer; print({heavy} & set(sys.modules), threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set() 1\n"


def test_an_rtsp_camera_is_run_survives_its_server_and_keeps_its_password(
    start: Callable[..., subprocess.Popen[str]], rtsp_server: Callable[..., RtspServer]
) -> None:
    server = rtsp_server("--user", "me", "--password", "secret")
    uri = server.url("me:secret@")
    limits = ("--set", "sources.0.open_s=2", "--set", "sources.0.read_s=0.5")
    process = start("run", "--set", f"sources=[{{uri: '{uri}', name: door}}]", *limits, *SCRIPTED, *ANY_PORT)
    said = [line_with(process, "source  online"), line_with(process, "start   moving left")]
    server.kill()
    said += [line_with(process, "(gap)"), line_with(process, "source  offline")]
    rtsp_server("--user", "me", "--password", "secret", port=server.port)
    said += [line_with(process, "gap     "), line_with(process, "start   moving left")]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 reconnect" in out
    assert "secret" not in "".join(said) + out + err


def test_an_http_camera_is_run(
    start: Callable[..., subprocess.Popen[str]], http_camera: Callable[..., HttpCamera]
) -> None:
    camera = http_camera()
    process = start("run", camera.url(), *SCRIPTED, "--no-publish")
    assert line_with(process, "source  online")
    assert line_with(process, "start   moving left")
