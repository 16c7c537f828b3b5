"""Whole runs: they resume exactly, what they have saved survives every failure, and several processes act as one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from engines import load_engine
from engines.errors import EngineError
from engines.training.loop import Stop
from tests.engines.training.runs import (
    LABELS,
    PART,
    Shades,
    assert_same_runs,
    checkpoint_in,
    finish,
    first_batch,
    interrupt,
    recipe_of,
    resume,
    trainer_of,
    two_processes,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.timeout(300)  # two processes have to start

# -------------------------------------------------------------------------------------------------------- resuming


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_of(dropout=0.3, warmup_steps=2)
    assert finish(trainer_of(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "parts", after=3)  # in the second part
    assert "stopped after step 3 of 6; --resume goes on from here" in capsys.readouterr().out
    resume(recipe, tmp_path / "parts")
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_parts_can_be_added_to_a_run_that_is_done(tmp_path: Path) -> None:
    assert finish(trainer_of(recipe_of(parts=[PART]), tmp_path))
    longer = recipe_of(parts=[PART, PART | {"steps": 1}])
    assert resume(longer, tmp_path).step == 3


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"seed": 5, "dropout": 0.1}, "dropout, seed"),
        ({"parts": [PART]}, "parts"),
        ({"parts": [PART, PART | {"steps": 5}]}, "parts"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused_with_the_keys_that_differ(
    tmp_path: Path, changes: dict[str, Any], keys: str
) -> None:
    trainer_of(recipe_of(), tmp_path).save()
    with pytest.raises(EngineError, match=f"it was written with other {keys}; make the recipe as it was, or"):
        trainer_of(recipe_of(**changes), tmp_path).load()


def test_a_checkpoint_of_other_labels_is_refused(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(), tmp_path)
    trainer.save()
    trainer.feed.labels = ("jump", "run", "sit")  # type: ignore[misc]
    with pytest.raises(EngineError, match="it was written with other labels"):
        trainer.load()


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no .*checkpoint\.pt; start without --resume"):
        trainer_of(recipe_of(), tmp_path).load()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no checkpoint"),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: torch.save({"conv1.weight": torch.zeros(1)}, path),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save(torch.load(path) | {"network": {"conv1.weight": torch.zeros(1)}}, path),
        lambda path: torch.save(torch.load(path) | {"optimizer": None}, path),
        lambda path: torch.save(Path("/a/path"), path),
    ],
    ids=["empty", "text", "cut off", "weights", "list", "other weights", "no optimiser", "code"],
)
def test_a_damaged_checkpoint_is_refused_with_a_way_out(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    trainer_of(recipe_of(), tmp_path).save()
    damage(tmp_path / "checkpoint.pt")
    with pytest.raises(EngineError, match=r"checkpoint\.pt is damaged, or nothing .*--init .*weights\.pt") as told:
        trainer_of(recipe_of(), tmp_path).load()
    assert "\n" not in str(told.value)


# -------------------------------------------------------------------------------------------------------- failures


DIVERGING = [PART, PART | {"learning_rate": 1e30}]


def test_a_run_that_diverges_says_so_and_keeps_the_checkpoint_of_before(tmp_path: Path) -> None:
    recipe = recipe_of(parts=DIVERGING, checkpoint_steps=1)
    with pytest.raises(EngineError, match="the answers are no numbers"):
        finish(trainer_of(recipe, tmp_path))
    trainer = trainer_of(recipe, tmp_path)
    trainer.load()
    assert trainer.step == 2
    assert load_engine(tmp_path / "weights.pt").spec.labels == LABELS


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    recipe = recipe_of(parts=[PART, PART | {"steps": 5, "learning_rate": 1e30}], checkpoint_steps=2)
    with pytest.raises(EngineError, match=r"the loss is (nan|inf) at step 4: take a smaller learning_rate or cl"):
        finish(trainer_of(recipe, tmp_path))
    assert checkpoint_in(tmp_path)["step"] == 2


def test_a_gradient_that_is_no_number_changes_nothing(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(clip_norm=None), tmp_path)
    trainer.net.fc.weight.register_hook(lambda gradient: gradient * float("inf"))
    trainer.gradients(first_batch(trainer))
    before = trainer.net.fc.weight.detach().clone()
    with pytest.raises(EngineError, match=r"the length of the gradient is (nan|inf) at step 1"):
        trainer.update()
    assert torch.equal(trainer.net.fc.weight, before)


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.pt", "weights.json"])
def test_a_full_disk_is_told_and_all_files_of_before_stay(tmp_path: Path, name: str) -> None:
    trainer = trainer_of(recipe_of(), tmp_path)
    trainer.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"checkpoint.pt", "weights.pt", "weights.json"}
    trainer.gradients(first_batch(trainer))
    trainer.update()
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(EngineError, match=r"cannot write in .*is the disk full.*what was saved before stays") as told:
        trainer.save()
    assert "\n" not in str(told.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_is_full_in_mid_run_ends_it(tmp_path: Path) -> None:
    recipe = recipe_of(checkpoint_steps=2)
    interrupt(recipe, tmp_path, after=2)
    (tmp_path / "checkpoint.pt.part").symlink_to("/dev/full")
    with pytest.raises(EngineError, match="is the disk full"):
        resume(recipe, tmp_path)
    assert checkpoint_in(tmp_path)["step"] == 2
    resume(recipe, tmp_path)


def test_a_disk_that_is_full_at_the_start_ends_the_run_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    trainer = trainer_of(recipe_of(), tmp_path)
    with pytest.raises(EngineError, match="is the disk full"):
        finish(trainer)
    assert trainer.step == 0


def test_clips_that_are_left_out_are_listed_once_and_the_others_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Shades):
        faults = ("b.mp4 is broken",)

    assert finish(trainer_of(recipe_of(), tmp_path, open_feed=Broken))
    assert capsys.readouterr().out.count("left out: b.mp4 is broken") == 1


def test_a_run_without_a_clip_ends_with_an_error(tmp_path: Path) -> None:
    class Empty(Shades):
        count = 0

    with pytest.raises(EngineError, match="not one of the videos that were to train can be used"):
        finish(trainer_of(recipe_of(), tmp_path, open_feed=Empty))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_signal_is_remembered_until_the_end_and_then_means_what_it_did_before() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        with Stop() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# ------------------------------------------------------------------------------------------------ several processes


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What two processes have found, and the folder of their runs."""
    out = tmp_path_factory.mktemp("two")
    fabric = Fabric(accelerator="cpu", devices=2, strategy=DDPStrategy(start_method="spawn"))
    return out, fabric.launch(partial(two_processes, out=out))


def test_two_processes_average_their_gradients(two: tuple[Path, dict[str, Any]]) -> None:
    assert two[1]["gradient difference"] < 1e-5


def test_two_processes_keep_the_same_weights(two: tuple[Path, dict[str, Any]]) -> None:
    assert two[1]["weights difference"] == 0


def test_a_signal_to_one_of_two_processes_ends_both_and_the_run_goes_on_exactly(
    two: tuple[Path, dict[str, Any]],
) -> None:
    assert_same_runs(two[0] / "whole", two[0] / "parts")


def test_numbers_that_are_none_in_one_process_end_both(two: tuple[Path, dict[str, Any]]) -> None:
    assert two[1]["diverged"] == 2


def test_a_full_disk_ends_both_processes(two: tuple[Path, dict[str, Any]]) -> None:
    assert "is the disk full" in two[1]["full disk"]
