"""Training: it learns, it resumes exactly, and it refuses what it cannot use in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from engines.networks import build_network
from tools.motion_paths import LABELS
from tools.recipe import Part, Recipe, TrainError, build, read_recipe
from tools.train import Trainer, evaluate, learning_rate, main

PART: dict[str, Any] = {"steps": 2, "batch": 4, "size": 32, "learning_rate": 2e-3, "clip_frames": 8}
TINY: dict[str, Any] = {
    "network": "tsm",
    "backbone": "resnet18",
    "width": 0.125,
    "size": 32,
    "dropout": 0.0,
    "frames": 4,
    "parts": [PART, PART | {"steps": 4}],
    "warmup_steps": 0,
    "checkpoint_steps": 3,
    "held_out": 8,
    "held_out_at_end": 16,
}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny recipe with some keys changed; its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
        return path

    return write


def test_the_loss_falls_on_one_batch_that_is_shown_again_and_again(tmp_path: Path) -> None:
    trainer = Trainer(Recipe(**TINY | {"parts": [PART | {"steps": 60}]}), tmp_path)
    losses = []
    for _ in range(40):
        losses.append(trainer.gradients())
        trainer.update()
        trainer.step = 0  # the same clips once more
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = Recipe(**TINY | {"dropout": 0.3})
    whole = Trainer(recipe, tmp_path)
    for _ in range(6):
        whole.gradients()
        whole.update()
    first = Trainer(recipe, tmp_path)
    for _ in range(3):
        first.gradients()
        first.update()
    first.save()
    second = Trainer(recipe, tmp_path)
    second.load()
    assert second.step == 3
    for _ in range(3):
        second.gradients()
        second.update()
    for ours, theirs in ((whole.net, second.net), (whole.average, second.average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_two_processes_leave_weights_that_load_into_a_network(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(recipe_file(processes=2)), "--out", str(out)]) == 0
    facts = json.loads((out / "weights.json").read_text(encoding="utf-8"))
    assert facts["labels"] == list(LABELS)
    assert facts["held_out_clips"][1] > 0
    weights = torch.load(out / "weights.pt", weights_only=True)
    build_network("tsm", "resnet18", frames=4, classes=len(LABELS), causal=True, width=0.125).load_state_dict(weights)
    assert main([str(recipe_file(processes=2)), "--out", str(out), "--resume"]) == 0  # nothing is left to do


def test_the_report_counts_every_steady_frame_once() -> None:
    recipe = Recipe(**TINY)
    report = evaluate(build(recipe), recipe, 32)
    assert report.frames == int(report.confusion.sum()) > 0
    assert report.frame_accuracy == pytest.approx(int(report.confusion.trace()) / report.frames)
    assert 30 < report.clips <= 40  # four of each label, less those whose last frame has none
    assert "moving left" in str(report)


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    part = Part(**PART | {"steps": 100})
    rates = [learning_rate(part, 10, step) for step in range(101)]
    assert rates[0] < 0.1 * part.learning_rate
    assert max(rates) > 0.9 * part.learning_rate
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 1}, "widht: Extra inputs are not permitted"),
        ({"parts": [PART, PART | {"steps": 0}]}, "parts.1.steps: Input should be greater than or equal to 1"),
        ({"processes": 3}, "a batch of 4 cannot be shared evenly by 3 processes"),
        ({"backbone": "resnet19"}, "did you mean 'resnet18'"),
        ({"start_from": "no_such_file.pt"}, "no_such_file.pt"),
    ],
)
def test_a_bad_recipe_gives_one_sentence_that_names_the_fault(
    recipe_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    assert main([str(recipe_file(**changes)), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("train: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"list\.yaml must be a mapping"):
        read_recipe(path)


def test_resuming_without_a_checkpoint_says_so(
    recipe_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recipe_file()), "--out", str(tmp_path / "empty"), "--resume"]) == 2
    assert "start without --resume" in capsys.readouterr().err


def test_another_recipe_cannot_continue_a_checkpoint(tmp_path: Path) -> None:
    Trainer(Recipe(**TINY), tmp_path).save()
    with pytest.raises(TrainError, match="another recipe"):
        Trainer(Recipe(**TINY | {"seed": 5}), tmp_path).load()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"stranger": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(TrainError, match="stranger"):
        build(Recipe(**TINY | {"start_from": tmp_path / "weights.pt"}))


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(TrainError, match=r"cannot load .*weights\.pt"):
        build(Recipe(**TINY | {"start_from": tmp_path / "weights.pt"}))


@pytest.mark.parametrize("path", sorted(Path("configs/train").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_can_be_read(path: Path) -> None:
    assert read_recipe(path).steps > 0
