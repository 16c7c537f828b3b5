"""One reading of clips: a replay, a run with its page and the evaluation see the same, and say the same."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines import load_engine, probabilities
from engines.build.scenes import texture
from streamer.pipeline.ring import Fit, fit
from streamer.types import Image
from tests.streamer.commands.test_cli import ANY_PORT, line_with, start, streamer
from tests.streamer.view.peers import Viewer, opened
from tests.streamer.view.test_process import page_of
from tests.tools.sets import write_video
from tools.evaluate.__main__ import main
from tools.motion.paths import LABELS

__all__ = ["start"]  # a fixture

HEIGHT, WIDTH = 180, 320
SECONDS = 4
RIM = 96  # pixels at either side


def sides(times_s: Sequence[float]) -> list[Image]:
    """At both sides of a still picture blue goes to the right, at 40 pixels a second, and weaker red to the left."""
    rng = np.random.default_rng(5)
    red, blue = (texture(rng, HEIGHT, 2 * WIDTH)[..., channel] for channel in (0, 1))
    still = texture(rng, HEIGHT, WIDTH)
    pictures = []
    for moved in (round(40 * time_s) for time_s in times_s):
        picture = still.copy()
        for x in (0, WIDTH - RIM):
            picture[:, x : x + RIM, 0] = 128 + 1.2 * (blue - blue.mean())[:, x + 180 - moved :][:, :RIM]
            picture[:, x : x + RIM, 1] = 110
            picture[:, x : x + RIM, 2] = 128 + 0.7 * (red - red.mean())[:, x + moved :][:, :RIM]
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def shaken(times_s: Sequence[float]) -> list[Image]:
    """A picture that shakes at 5 Hz: to a network of 5 frames a second it would stand still."""
    wide = texture(np.random.default_rng(2), HEIGHT, 2 * WIDTH)
    moved = (round(160 + 12 * np.cos(10 * np.pi * time_s)) for time_s in times_s)
    return [np.clip(wide[:, x : x + WIDTH], 0, 255).astype(np.uint8) for x in moved]


def every(fps: float, seconds: float = SECONDS) -> list[float]:
    return [n / fps for n in range(round(seconds * fps))]


def from_behind(times_s: Sequence[float]) -> list[Image]:
    return [picture[:, ::-1] for picture in sides(times_s)]


def show_mirrored(path: Path) -> None:
    """Have a video shown mirrored, as the cameras in front of phones write it."""
    data, one = path.read_bytes(), 1 << 16
    upright, turned = (struct.pack(">9i", side, 0, 0, 0, one, 0, 0, 0, 1 << 30) for side in (one, -one))
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Clips in folders of the labels that they show, and these."""
    root = tmp_path_factory.mktemp("clips")
    for label in LABELS:
        (root / "train" / label).mkdir(parents=True)
    right, shaking = root / "validation" / "moving right", root / "validation" / "shaking"
    uneven = [*every(60, 1), *(1 + time_s for time_s in every(7, SECONDS - 1))]
    made = [
        write_video(right / name, show(times_s), times_s=times_s)
        for name, show, times_s in (
            ("usual.mp4", sides, every(30)),
            ("mirrored.mp4", from_behind, every(25)),
            ("slow.mp4", sides, every(5)),
            ("uneven.mkv", sides, uneven),
        )
    ]
    show_mirrored(right / "mirrored.mp4")
    made.append(write_video(shaking / "shaken.mp4", shaken(every(30)), times_s=every(30)))
    return {path: path.parent.name for path in made}


def test_read_in_another_way_these_clips_would_show_something_else() -> None:
    engine = load_engine("default", "openvino", threads=1, precision="fp32")
    spec, on = engine.spec, np.ones(1, np.bool_)

    def label(pictures: Sequence[Image], mode: Fit = "stretch") -> str:
        state, said = engine.new_state(1), []
        for picture in pictures:
            shown = fit(np.ascontiguousarray(picture), spec.height, spec.width, mode)
            logits, ready = engine.step(np.ascontiguousarray(shown)[None], on, ~on, state)
            said += [probabilities(logits)[0]] * bool(ready[0])
        return spec.labels[int(np.mean(said, 0).argmax())]

    pictures = sides(every(spec.rate_hz))
    assert label(pictures) == "moving right"
    assert label([picture[:, ::-1] for picture in pictures]) == "moving left"
    assert label([picture[..., ::-1] for picture in pictures]) != "moving right"
    assert label(pictures, "crop") == "still"
    assert label(shaken(every(spec.rate_hz))) == "shaking"
    assert label(shaken(every(spec.rate_hz / 2))) == "still"


def test_a_replay_tells_what_they_show(clips: dict[Path, str], tmp_path: Path) -> None:
    done = streamer("replay", *clips, "--model", "default", "--out", tmp_path / "told.jsonl", "--kind", "event")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    found = {path: {event["label"] for event in told if event["stream"] == path.stem} for path in clips}
    assert found == {path: {label} for path, label in clips.items()}


def test_the_evaluation_of_clips_is_right_about_them_and_says_at_what_rate_it_asks(
    clips: dict[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = next(iter(clips)).parents[2]
    arguments = ["default", "--data", f"folders:{root}", "--workers", "0", "--json", str(tmp_path / "found.json")]
    assert main(["clips", *arguments]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["videos"], found["top1"], found["left_out"], found["damaged"]) == (len(clips), 1, [], [])
    assert "as a stream at 10 frames a second, as the model's sidecar tells" in capsys.readouterr().out


def test_the_evaluation_of_a_stream_finds_what_they_show(clips: dict[Path, str], tmp_path: Path) -> None:
    videos = []
    for path, label in clips.items():
        video = tmp_path / path.name
        video.symlink_to(path)
        video.with_suffix(".csv").write_text(f"label,start_s,end_s\n{label},0,{SECONDS}\n")
        videos += ["--video", str(video)]
    assert main(["stream", "default", *videos, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["f1"], found["false_per_minute"]) == (1, 0)


def test_a_run_and_its_page_tell_and_show_the_same(
    clips: dict[Path, str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    wanted = {path.stem: label for path, label in clips.items() if path.stem in {"mirrored", "shaken"}}
    files = [path for path in clips if path.stem in wanted]
    loops = [part for number in range(len(files)) for part in ("--set", f"sources.{number}.loop=true")]
    process = start("run", *files, *loops, "--model", "default", *ANY_PORT, "--view", "127.0.0.1:0")
    page = page_of(process)
    line_with(process, "  start  ")
    with Viewer(page) as viewer:
        told: dict[str, str] = {}
        for message in viewer.labels():
            if message["kind"] == "event":
                told[message["stream"]] = message["label"]
            if told.keys() == wanted.keys():
                break
        assert told == wanted
        viewer.say(look={"mirrored": WIDTH})
        stream, jpeg = viewer.picture()
    assert stream == "mirrored"
    shown = opened(jpeg).astype(int)
    whole = sides(every(25))
    assert min(np.abs(shown - picture).mean() for picture in whole) < 8
    assert min(np.abs(shown - picture[:, ::-1]).mean() for picture in whole) > 16
    assert min(np.abs(shown - picture[..., ::-1]).mean() for picture in whole) > 16
