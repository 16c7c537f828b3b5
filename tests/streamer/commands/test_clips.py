"""Clips of a real run with real cameras, and what `streamer ctl` says of them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.labels.messages import EventMessage
from streamer.labels.subscriber import Subscriber
from tests.conftest import WaitFor
from tools.cameras import HttpCamera, RtspServer
from tools.cameras.barcode import read_barcode

from .test_cli import ANY_PORT, SCRIPTED, command, environment, line_with, streamer

SECRET = "s3cr3t"
ON = "labels go on, clips are tried again"


def pictures(path: Path) -> tuple[list[int], list[float]]:
    """The numbers in a clip's pictures and their times, seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        numbers = [read_barcode(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)) for frame in frames]
        return numbers, [frame.time or 0.0 for frame in frames]


@pytest.mark.parametrize("kind", ["rtsp", "http", "process"])
def test_clips_of_a_camera_play_what_it_sent_and_tell_no_password(
    kind: str,
    tmp_path: Path,
    rtsp_server: Callable[..., RtspServer],
    http_camera: Callable[[], HttpCamera],
    wait_for: WaitFor,
) -> None:
    if kind == "http":
        camera = http_camera()
        camera.password = SECRET
        uri = camera.url(credentials=f"viewer:{SECRET}@")
    else:
        uri = rtsp_server("--user", "viewer", "--password", SECRET).url(f"viewer:{SECRET}@")
    folder = tmp_path / "clips"
    settings = [f"clips.folder={folder}", "clips.before_s=1", "clips.after_s=0.5"]
    settings += ["capture=process"] * (kind == "process")
    sets = [argument for setting in settings for argument in ("--set", setting)]
    with subprocess.Popen(
        command("run", uri, *SCRIPTED, *ANY_PORT, *sets), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    ) as process:  # fmt: skip
        labels = line_with(process, "labels  ").split()[1]
        control = line_with(process, "control ").split()[1]
        with Subscriber(labels, kinds=["event"]) as messages:
            end = next(m for m in messages if isinstance(m, EventMessage) and m.clip)
        assert end.clip
        path = folder / f"{end.clip.name}.mp4"
        wait_for(path.with_suffix(".json").exists)
        if kind == "rtsp":
            listed = json.loads(streamer("ctl", "clips", "--address", control).stdout)
            assert end.clip.name in {clip["name"] for clip in listed}
            answered = streamer("ctl", "answer", end.clip.name, "wave", "--address", control)
            assert json.loads(answered.stdout) == {"clip": end.clip.name, "label": "wave", "before": ""}
            refused = streamer("ctl", "answer", end.clip.name, "../wave", "--address", control)
            assert refused.returncode == 2
            assert "cannot be an answer, since it names a folder" in " ".join(refused.stderr.split())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    numbers, times = pictures(path)
    assert all((after - before) % 1024 for before, after in pairwise(numbers))
    assert times == sorted(times)
    note = json.loads(path.with_suffix(".json").read_text())
    assert end.t_end_us
    assert note["start_us"] <= end.t_start_us
    assert note["end_us"] >= end.t_end_us
    assert (times[-1] - times[0]) * 1e6 == pytest.approx(note["end_us"] - note["start_us"], abs=2)
    clips = {one.stem for one in folder.glob("*.mp4")}
    assert clips == {one.stem for one in folder.glob("*.json")}
    for one in folder.rglob("*"):
        assert SECRET not in str(one)
        assert one.is_dir() or SECRET.encode() not in one.read_bytes()
    assert SECRET not in out + err


def test_a_folder_that_cannot_be_written_is_told_before_the_run_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = streamer("run", "pattern://swipe", *SCRIPTED, *ANY_PORT, "--set", f"clips.folder={tmp_path}/file/clips")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_disk_that_fills_up_costs_clips_and_no_labels(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    script = 'set -e; mount -t tmpfs -o size=300k clips "$1"; folder=$1; shift; "$@"; ls -A "$folder"'
    sets = ("--set", f"clips.folder={tmp_path}", "--set", "clips.before_s=1", "--set", "clips.after_s=0")
    run = command("run", "pattern://swipe", *SCRIPTED, "--no-publish", "--log", "json", "--duration", 7, *sets)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), *run],
        capture_output=True, text=True, check=False, timeout=120, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logged = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    told = [line for line in logged if "a clip cannot be written" in line]
    assert told == [f"clips.folder {tmp_path}: a clip cannot be written: No space left on device; {ON}"]
    assert re.search(r"labels  [3-9] events", done.stdout)
    assert ".mp4" in done.stdout
    assert ".part" not in done.stdout
