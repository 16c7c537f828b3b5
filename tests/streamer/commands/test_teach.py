"""`streamer teach`: from a folder of clips to a model that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import find_models, load_engine
from engines.spec import read_spec
from streamer.commands import app
from streamer.commands.teach import default_starts
from streamer.errors import ConfigError
from streamer.types import Image
from tests.conftest import needs_torch
from tests.tools.sets import write_video

UP, ROUND = "auf und ab", "größer"
Draw = Callable[[float], tuple[float, float, float]]
MOTIONS: dict[str, Draw] = {  # seconds -> place and size of the disc
    UP: lambda t: (0.5, 0.5 + 0.3 * np.sin(9 * t), 0.12),
    ROUND: lambda t: (0.5, 0.5, 0.1 + 0.15 * t),
    "nothing": lambda t: (0.5, 0.5, 0.15),
}


def film(label: str, number: int, seconds: float, fps: int, size: tuple[int, int]) -> list[Image]:
    """A disc before noise that does what the label says; another one for each number."""
    rng = np.random.default_rng(number)
    width, height = size
    ground = rng.integers(60, 120, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    colour, dx, dy = rng.integers(150, 256, 3), rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1)
    ys, xs = np.mgrid[: ground.shape[0], : ground.shape[1]]
    frames = []
    for index in range(round(seconds * fps)):
        x, y, radius = MOTIONS[label](index / fps)
        disc = (xs - (x + dx) * width) ** 2 + (ys - (y + dy) * height) ** 2 < (radius * height) ** 2
        picture = np.where(disc[..., None], colour, ground) + rng.integers(-4, 5, ground.shape)
        frames.append(picture.clip(0, 255).astype(np.uint8))
    return frames


def teach(*arguments: object) -> int:
    """The command in this process; its exit code. Errors are raised."""
    return int(app(args=["teach", *map(str, arguments)], standalone_mode=False) or 0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of each motion, of two sizes, rates and codecs; and an empty one."""
    root = tmp_path_factory.mktemp("my clips")
    for label in MOTIONS:
        for number in range(3):
            fps, size, suffix = ((30, (64, 48), ".mp4"), (20, (96, 64), ".avi"))[number % 2]
            write_video(root / label / f"{label}-{number}{suffix}", film(label, number, 1.5, fps, size), fps)
    (root / UP / "empty.mp4").touch()
    return root


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short clips of two motions."""
    root = tmp_path_factory.mktemp("few")
    for label in (UP, "nothing"):
        for number in range(2):
            write_video(root / label / f"{number}.mp4", film(label, number, 0.8, 10, (64, 48)), 10)
    return root


@pytest.fixture(scope="module")
def taught(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model, and what was told while it was taught."""
    from io import StringIO

    out, told = tmp_path_factory.mktemp("runs") / "mine", StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.training.teach.CERTIFIED_STEPS", 8)
        patch.setattr("engines.training.teach.DECAYS", (0.1,))
        patch.setattr(sys, "stdout", told)
        assert teach(clips, "--out", out, "--start", "default") == 0
    return out, told.getvalue()


@needs_torch
def test_a_taught_model_knows_its_labels_where_it_was_not_shown(taught: tuple[Path, str], tmp_path: Path) -> None:
    engine = load_engine(taught[0] / "mine.onnx", "openvino", threads=1)
    assert engine.spec.labels == (UP, ROUND, "nothing")
    assert engine.spec.events["background"] == ("nothing",)
    rules: Any = engine.spec.events["labels"]
    assert set(rules) == {UP, ROUND}
    assert all(0 < rule["leave"] < rule["enter"] < 1 for rule in rules.values())
    from streamer.teaching.frames import frames_of

    for label in MOTIONS:
        frames = frames_of(write_video(tmp_path / f"{label}.mp4", film(label, 77, 2.5, 30, (80, 64))), engine.spec)
        state = engine.new_state(1)
        for index, frame in enumerate(frames):
            logits, _ = engine.step(frame[None], np.ones(1, np.bool_), np.array([index == 0]), state)
        assert engine.spec.labels[logits[0].argmax()] == label


@needs_torch
def test_it_tells_what_it_does_and_how_to_run_it(taught: tuple[Path, str]) -> None:
    out, told = taught
    assert "left out: " in told
    assert "empty.mp4: this file is empty" in told
    assert f"9 clips of 3 labels: {UP}, {ROUND}, nothing" in told
    assert "clip 2 of 9" in told
    assert "clips right, each asked of a layer that had not seen it" in told
    assert f"  {ROUND}: " in told
    assert told.splitlines()[-1] == f"try it:  streamer run 0 --model {out}/mine.onnx"
    assert sorted(path.name for path in out.iterdir()) == ["mine.json", "mine.onnx", "mine.pt"]


@needs_torch
def test_a_recording_is_labelled_by_a_taught_model(taught: tuple[Path, str], tmp_path: Path) -> None:
    clip = write_video(tmp_path / "new.mp4", film(UP, 78, 4, 30, (80, 64)))
    out = tmp_path / "events.jsonl"
    command = ["replay", str(clip), "--model", str(taught[0] / "mine.onnx"), "--out", str(out)]
    assert not app(args=command, standalone_mode=False)
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert {event["label"] for event in events if event["kind"] == "event"} == {UP}


@needs_torch
def test_a_model_that_is_there_is_not_written_over(taught: tuple[Path, str], clips: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not empty .*; give another --out, or --replace"):
        teach(clips, "--out", taught[0])


@needs_torch
@pytest.mark.parametrize(
    ("out", "message"), [("my model", "take letters, digits, - and _"), ("file.txt", "file.txt: Not a directory")]
)
def test_a_folder_that_cannot_be_a_models_is_told_before_anything(
    clips: Path, tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(ConfigError, match=message):
        teach(clips, "--out", tmp_path / out)


@needs_torch
def test_a_full_disk_leaves_no_model(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.build.model.export_onnx", full)
    monkeypatch.setattr("engines.training.teach.DECAYS", (0.1,))
    with pytest.raises(
        ConfigError, match=r"cannot be written \(No space left on device\); nothing was; free some space"
    ):
        teach(few, "--out", tmp_path / "mine", "--start", "default")
    assert list((tmp_path / "mine").iterdir()) == []


@needs_torch
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_it_there_is_no_half_model(few: Path, tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import signal; signal.signal(2, signal.default_int_handler); import engines.training.teach as t; "
        "t.CERTIFIED_STEPS, t.DECAYS = 10**9, (0.1,); from streamer.commands import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "teach",
        str(few),
        "--out",
        str(tmp_path / "mine"),
        "--start",
        "default",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        wanted = "making the model" if number == signal.SIGKILL else "clip 2 of"
        assert any(wanted in line for line in process.stdout)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert [path for path in (tmp_path / "mine").glob("*") if not path.name.startswith(".")] == []


def test_it_begins_with_every_shipped_model_that_streams_the_quickest_first() -> None:
    starts = default_starts()
    macs = [read_spec(find_models()[name]).step_macs or 0 for name in starts]
    assert starts[0] == "default"
    assert macs == sorted(macs)


def test_what_is_missing_is_told_before_the_clips_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.commands.teach.NEEDED", ("torch_that_is_not_there",))
    from engines import EngineError

    with pytest.raises(EngineError, match="teaching needs torch_that_is_not_there: pip install"):
        teach(tmp_path)


@needs_torch
def test_wrong_clips_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    write_video(tmp_path / "wave" / "a.mp4", 30)
    program = "import sys; from streamer.commands import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", program, "teach", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {}, check=False)
    assert done.returncode == 2
    assert "all clips are of one label, wave" in done.stderr
    assert done.stdout.endswith("False\n")
