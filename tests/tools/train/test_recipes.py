"""The recipes in configs/train: each can be read and built, and those of the papers say what the papers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engines.networks import build_network
from tools.train.recipe import Recipe, read_recipe

FOLDER = Path(__file__).parents[3] / "configs" / "train"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe(name: str) -> Recipe:
    return read_recipe(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_asks_for_a_network_that_can_be_built(name: str) -> None:
    r = recipe(name)
    options: dict[str, Any] = dict(r.options)
    with torch.device("meta"):
        net = build_network(r.network, r.backbone, r.frames, 10, r.causal, r.width, dropout=r.dropout, **options)
    assert net.causal == r.causal


def test_every_network_of_the_papers_has_its_recipes() -> None:
    assert {name.partition("_")[0] for name in NAMES} >= {"tcm", "tanet", "stm", "gtdnet", "tsm", "tsn"}


@pytest.mark.parametrize(
    ("name", "batch", "rate", "drops", "epochs", "decay", "dropout", "clip_norm", "sampling"),
    [
        ("tcm_something_v1", 32, 0.01, (30, 40, 45), 50, 5e-4, 0.5, 200, "uniform"),
        ("tcm_something_v2", 32, 0.01, (30, 40, 45), 50, 5e-4, 0.5, 200, "uniform"),
        ("tanet_kinetics", 64, 0.01, (50, 75, 90), 100, 1e-4, 0.5, 20, "dense"),
        ("tanet_something_v1", 64, 0.01, (30, 40, 45), 50, 1e-3, 0.6, 20, "uniform"),
        ("tanet_something_v2", 128, 0.02, (30, 40, 45), 50, 5e-4, 0.5, 20, "uniform"),
        ("stm_jester", 64, 0.01, (30, 40, 45), 50, 5e-4, 0.5, None, "uniform"),
        ("stm_ucf101", 32, 0.001, (15,), 25, 5e-4, 0.5, None, "uniform"),
        ("gtdnet_kinetics", 64, 0.01, (50, 75, 90), 100, 1e-4, 0.5, None, "dense"),
    ],
)
def test_the_papers_schedules_are_kept(
    name: str, batch: int, rate: float, drops: tuple[int, ...], epochs: int, decay: float, dropout: float,
    clip_norm: float | None, sampling: str,
) -> None:  # fmt: skip
    r = recipe(name)
    (part,) = r.parts
    assert r.data is not None
    assert (part.batch, part.learning_rate, part.drops, part.epochs) == (batch, rate, drops, epochs)
    assert (r.optimizer, r.momentum, r.weight_decay, r.dropout, r.clip_norm) == ("sgd", 0.9, decay, dropout, clip_norm)
    assert (r.data.sampling, r.backbone, r.size) == (sampling, "resnet50", 224)
    assert (r.bias_rate, r.nesterov) == (
        2.0 if r.network in ("tcm", "tanet") else 1.0,
        r.network == "tcm",
    )


def test_tanet_trains_its_head_faster() -> None:
    r = recipe("tanet_kinetics")
    assert (r.head_rate, r.head_bias_rate) == (5.0, 10.0)


def test_tanet_on_something_v1_does_not_flip() -> None:
    data = recipe("tanet_something_v1").data
    assert data is not None
    assert not data.augment.flip
