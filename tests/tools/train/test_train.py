"""The command: real processes that are stopped and go on, the model at the end, and one sentence for every mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from engines import load_engine
from tests.engines.training.runs import PART, checkpoint_in, same
from tests.tools.sets import folders
from tests.tools.train.runs import TINY, recipe_of, resume, trainer_of
from tools.motion.paths import LABELS
from tools.train.__main__ import main
from tools.train.recipe import read_recipe

torch.set_num_threads(1)
pytestmark = pytest.mark.timeout(600)  # starting a process takes seconds of computing, on a busy machine minutes

ROOT = Path(__file__).parents[3]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a tiny recipe with some keys changed; its path."""

    def write_recipe(**keys: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | keys), encoding="utf-8")
        return path

    return write_recipe


class Command:
    """A command in a process group of its own, whose output goes to a file."""

    def __init__(self, log: Path, *arguments: object) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=ROOT, env=environment, stdout=self._file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._log = log

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 280
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def wait(self) -> int:
        return self.process.wait(280)

    def kill(self) -> None:
        """All of its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._file.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands; they end with the test."""
    commands: list[Command] = []

    def start_command(*arguments: object) -> Command:
        commands.append(Command(tmp_path / f"log{len(commands)}", *arguments))
        return commands[-1]

    yield start_command
    for command in commands:
        command.kill()


LONG = {"parts": [PART | {"steps": 100_000}], "checkpoint_steps": 2}


def test_a_run_survives_kill_9_and_a_signal_to_all_its_processes_and_goes_on_exactly(
    write: Write, start: Callable[..., Command], tmp_path: Path
) -> None:
    """Steps are cheap, starts are not: the uninterrupted run is computed here, up to where the other one is."""
    out, config = tmp_path / "out", write(**LONG, workers=1)
    first = start("tools.train", "-c", config, "--out", out, "--device", "cpu")
    first.wait_for((out / "weights.json").exists)
    os.kill(first.process.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    killed_at = checkpoint_in(out)["step"]
    assert killed_at % 2 == 0
    second = start("tools.train", "-c", config, "--out", out, "--device", "cpu", "--resume")
    second.wait_for(lambda: f"step {killed_at + 2}: held out" in second.said())
    os.killpg(second.process.pid, signal.SIGTERM)
    assert second.wait() == 143, second.said()
    assert "--resume goes on from here" in second.said()
    content = checkpoint_in(out)
    assert content["step"] >= killed_at + 2
    here = trainer_of(read_recipe(config), tmp_path / "here")
    for batch in here.feed.batches(0, 0, 0, 0):
        here.gradients(batch)
        here.update()
        if here.step == content["step"]:
            break
    assert same(here.net.state_dict(), content["network"])
    assert load_engine(out / "weights.pt").spec.labels == LABELS


def test_two_processes_stop_at_a_signal_and_torchrun_goes_on_to_the_model(
    write: Write, start: Callable[..., Command], tmp_path: Path
) -> None:
    out, config = tmp_path / "swipes", write(network="tsn", parts=[PART | {"steps": 20}], checkpoint_steps=5)
    first = start("tools.train", "-c", config, "--out", out, "--device", "cpu", "--processes", 2)
    first.wait_for((out / "weights.json").exists)
    os.kill(first.process.pid, signal.SIGTERM)
    assert first.wait() == 143, first.said()
    stopped_at = checkpoint_in(out)["step"]
    assert 5 <= stopped_at < 20
    second = start(
        "torch.distributed.run", "--nproc-per-node", 2, "--standalone", "--local-addr", "127.0.0.1",
        "-m", "tools.train", "-c", config, "--out", out, "--device", "cpu", "--resume",
    )  # fmt: skip
    assert second.wait() == 0, second.said()
    assert checkpoint_in(out)["step"] == 20
    assert second.said().count(f"wrote {out / 'swipes'}.onnx, swipes@") == 1
    engine = load_engine(out / "swipes.onnx")
    assert (engine.spec.name, engine.spec.mode, engine.spec.labels) == ("swipes", "stream", LABELS)
    held_out = [line.split(",")[0] for line in (out / "metrics.csv").read_text().splitlines() if not line.endswith(",")]
    assert held_out == ["step", "5", "10", "15", "20"]


def test_a_clip_form_on_a_folder_of_videos_becomes_a_model_of_windows(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = folders(tmp_path / "set")
    part = PART | {"steps": None, "epochs": 1, "batch": 3, "clip_frames": 4}
    config = write(network="tsn", causal=False, parts=[part], data={"layout": "folders"}, fit="crop")
    out = tmp_path / "hands"
    command = ["-c", str(config), "--out", str(out), "--data", str(tmp_path / "set"), "--device", "cpu"]
    assert main(command) == 0
    engine = load_engine(out / "hands.onnx")
    spec = engine.spec
    assert (spec.mode, spec.labels, spec.fit, spec.height, spec.frames) == ("window", labels, "crop", 32, 4)
    state, frame = engine.new_state(1), np.zeros((1, 32, 32, 3), np.uint8)
    ready = [bool(engine.step(frame, np.array([True]), np.array([n == 0]), state)[1][0]) for n in range(5)]
    assert ready == [False, False, False, True, True]
    assert "top-1" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({"widht": 1}, (), "widht: Extra inputs are not permitted"),
        ({"backbone": "resnet19"}, (), "did you mean 'resnet18'"),
        ({}, ("--init", "none.pth"), "cannot begin with none.pth"),
        ({}, ("--freeze", "layer9"), "cannot freeze 'layer9'"),
        ({}, ("--distill-from", "none.pt"), "cannot use the teacher none.pt"),
        ({}, ("--data", "folder"), "draws its clips itself: leave out --data"),
        ({"data": {"layout": "folders"}}, (), "give --data FOLDER"),
        ({"data": {"layout": "folders"}}, ("--data", "/none"), "there is no folder /none"),
        ({}, ("--processes", "3"), "a batch of 4 cannot be shared evenly by 3 processes"),
        ({}, ("--device", "cuda"), "cannot run on the device 'cuda'"),
        ({}, ("--resume",), "start without --resume"),
    ],
)
def test_a_mistake_ends_the_command_with_one_sentence(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, Any],
    options: tuple[str, ...],
    message: str,
) -> None:
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["-c", str(write(**keys)), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("train: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("out", ["checkpoint", "weights", "file/below", "/"])
def test_a_folder_that_cannot_be_used_is_told(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "file").touch()
    assert main(["-c", str(write()), "--out", str(tmp_path / out)]) == 2
    assert capsys.readouterr().err.startswith("train: ")


def test_a_run_is_not_overwritten_by_one_that_begins_anew(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_of(recipe_of(), tmp_path / "out").save()
    before = checkpoint_in(tmp_path / "out")
    assert main(["-c", str(write()), "--out", str(tmp_path / "out")]) == 2
    assert "holds a run: go on with it by --resume" in capsys.readouterr().err
    assert same(checkpoint_in(tmp_path / "out"), before)


def test_a_class_without_clips_is_told(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders(tmp_path / "set")
    (tmp_path / "set" / "A new one").mkdir()
    config = write(data={"layout": "folders"})
    assert main(["-c", str(config), "--out", str(tmp_path / "out"), "--data", str(tmp_path / "set")]) == 2
    assert "no clip to train 'A new one'" in capsys.readouterr().err


def test_a_model_that_cannot_be_written_leaves_the_weights(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "out.pt").mkdir()  # a file cannot take its place
    assert main(["-c", str(write(parts=[PART])), "--out", str(out), "--device", "cpu"]) == 2
    assert f"the weights are in {out / 'weights.pt'}, but no model can be made of them: " in capsys.readouterr().err
    assert resume(recipe_of(parts=[PART]), out).step == 2
