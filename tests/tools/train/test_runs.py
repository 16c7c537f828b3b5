"""Whole runs on videos: they resume exactly, and what cannot be read is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.errors import EngineError
from tests.engines.training.runs import assert_same_runs, finish
from tests.tools.sets import folders, write_frames
from tests.tools.train.runs import interrupt, resume, set_recipe, trainer_of

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels, for each two videos for training and one to hold out."""
    root = tmp_path_factory.mktemp("hands")
    folders(root)
    return root


@pytest.mark.parametrize("average", [0.9, 0.0])
def test_a_run_on_videos_that_is_interrupted_in_mid_epoch_ends_as_an_uninterrupted_one(
    tmp_path: Path, hands: Path, average: float
) -> None:
    recipe = set_recipe(hands, workers=1).model_copy(update={"average": average, "dropout": 0.3, "optimizer": "sgd"})
    assert finish(trainer_of(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "parts", after=4)  # of three steps an epoch
    resume(recipe, tmp_path / "parts")
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three frame folders for each of two labels, and one of each to hold out."""
    for split, count in (("train", 3), ("validation", 1)):
        for label in ("jump", "run"):
            for number in range(count):
                write_frames(tmp_path / "set" / split / label / str(number), 5)
    return tmp_path / "set"


def test_videos_that_cannot_be_read_are_listed_once_and_the_others_train(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = frames / "train" / "run" / "0"
    for path in broken.iterdir():
        path.write_bytes(b"no picture")
    assert finish(trainer_of(set_recipe(frames, workers=1), tmp_path / "out"))
    assert capsys.readouterr().out.count(f"left out: {broken}") == 1


def test_videos_of_which_none_can_be_read_end_the_run(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (frames / "train").rglob("*.jpg"):
        path.write_bytes(b"no picture")
    with pytest.raises(EngineError, match="not one of the videos that were to train can be used"):
        finish(trainer_of(set_recipe(frames, workers=1), tmp_path / "out"))
    assert capsys.readouterr().out.count("left out: ") == 6
    assert not (tmp_path / "out" / "checkpoint.pt").exists()
