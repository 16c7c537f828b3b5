"""What a step does: it learns, at the recipe's rates, keeps what is frozen, and listens to a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric

from engines.networks import NETWORKS, build_network
from engines.training.feed import IGNORE
from engines.training.initial import build
from engines.training.recipe import Part
from engines.training.trainer import divergence, learning_rate, loss_of, parameter_groups, spec_of
from tests.engines.checkpoint import write_checkpoint
from tests.engines.training.runs import LABELS, PART, first_batch, recipe_of, same, trainer_of

torch.set_num_threads(1)


# -------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "nesterov": True, "weight_decay": 5e-4}])
def test_the_loss_falls_on_one_batch_that_is_shown_again_and_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    rate = 2e-2 if changes else 2e-3
    trainer = trainer_of(recipe_of(parts=[PART | {"steps": 60, "learning_rate": rate}], **changes), tmp_path)
    batch = first_batch(trainer)
    losses = []
    for _ in range(40):
        losses.append(trainer.gradients(batch)[0])
        trainer.update()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_the_loss_asks_a_clip_once_or_each_frame_that_has_a_label() -> None:
    logits = torch.randn(2, 3, 5)
    whole = loss_of(logits, torch.tensor([4, 1]))
    assert whole == pytest.approx(float(-logits.mean(1).log_softmax(1)[[0, 1], [4, 1]].mean()))
    each = loss_of(logits, torch.tensor([[IGNORE, IGNORE, 2], [IGNORE, 0, 3]]))
    scores = logits.log_softmax(2)
    assert each == pytest.approx(float(-(scores[0, 2, 2] + scores[1, 1, 0] + scores[1, 2, 3]) / 3))


@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("causal", [True, False])
def test_every_parameter_gets_a_gradient(network: str, causal: bool) -> None:
    """Several processes would wait for one that has none."""
    net = build_network(network, "resnet26", 4, 3, causal, width=0.125)
    loss_of(net.frame_logits(torch.randn(2, 4, 3, 32, 32)), torch.tensor([0, 1])).backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_clips_without_labels_and_batches_without_clips_teach_nothing(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(), tmp_path)
    batch = first_batch(trainer)
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    assert trainer.gradients(batch._replace(labels=torch.full_like(batch.labels, IGNORE))) == (0, 4)
    assert all(not parameter.grad.any() for parameter in trainer.net.parameters() if parameter.grad is not None)
    trainer.net.load_state_dict(before)
    assert trainer.gradients(batch._replace(clips=batch.clips[:0], labels=batch.labels[:0])) == (0, 0)
    assert all(not parameter.grad.any() for parameter in trainer.net.parameters() if parameter.grad is not None)
    assert same(before, trainer.net.state_dict())  # a blank picture is not in the running statistics either


def test_mixed_precision_rounds_the_convolutions_and_not_the_weights(tmp_path: Path) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        teacher = write_checkpoint(tmp_path, labels=LABELS)
        trainer = trainer_of(recipe_of(distill_from=str(teacher)), tmp_path, fabric=fabric)
        losses.append(trainer.gradients(first_batch(trainer))[0])
        trainer.update()
        assert {value.dtype for value in trainer.net.parameters()} == {torch.float32}
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)


# -------------------------------------------------------------------------------------------------------- schedules


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    part = Part(**PART | {"steps": 100})
    rates = [learning_rate(part, 100, 10, step) for step in range(101)]
    assert rates[0] == pytest.approx(part.learning_rate / 11, rel=0.01)
    assert max(rates) > 0.9 * part.learning_rate
    assert rates[50] == pytest.approx(part.learning_rate / 2)
    assert rates[-1] == pytest.approx(0)


def test_drops_are_counted_in_epochs_where_the_part_is() -> None:
    part = Part(**PART | {"steps": None, "epochs": 50, "drops": (30, 40, 45), "learning_rate": 0.01})
    each = 7
    rates = [learning_rate(part, 50 * each, 0, step) for step in range(50 * each)]
    expected = [0.01] * 30 * each + [0.001] * 10 * each + [0.0001] * 5 * each + [0.00001] * 5 * each
    assert rates == pytest.approx(expected)


def test_drops_are_counted_in_steps_where_the_part_is() -> None:
    part = Part(**PART | {"steps": 10, "drops": (4, 8), "learning_rate": 1.0})
    assert [learning_rate(part, 10, 1, step) for step in range(10)] == pytest.approx(
        [0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]
    )


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 50),
    drops=st.lists(st.integers(1, 500), max_size=3),
    at=st.floats(0, 1, exclude_max=True),
)
def test_the_rate_is_never_above_the_recipes_and_never_zero_before_the_end(
    steps: int, warmup: int, drops: list[int], at: float
) -> None:
    part = Part(**PART | {"steps": steps, "drops": tuple(drops)})
    assert 0 < learning_rate(part, steps, warmup, int(at * steps)) <= part.learning_rate


def test_tanets_groups_are_those_of_its_paper() -> None:
    """The head's matrix 5 times as fast and its bias 10 times; biases twice as fast; no decay of biases and norms."""
    recipe = recipe_of(
        network="tanet", backbone="resnet26", weight_decay=1e-4, bias_rate=2, head_rate=5, head_bias_rate=10
    )
    net = build(recipe, LABELS)
    groups = parameter_groups(net, recipe)
    of = {id(p): (group["rate"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    found = {name: of[id(parameter)] for name, parameter in net.named_parameters()}
    assert found["fc.weight"] == (5, 1e-4)
    assert found["fc.bias"] == (10, 0)
    assert found["layer1.0.conv1.weight"] == found["layer1.0.tam.L.0.weight"] == (1, 1e-4)
    assert found["layer1.0.bn1.weight"] == found["layer1.0.bn1.bias"] == (1, 0)
    assert all((found[name][1] == 0) == (parameter.ndim == 1) for name, parameter in net.named_parameters())


def test_biases_outside_norms_are_twice_as_fast() -> None:
    recipe = recipe_of(network="gtdnet", backbone="resnet26", bias_rate=2)
    net = build(recipe, LABELS)
    of = {id(p): group["rate"] for group in parameter_groups(net, recipe) for p in group["params"]}
    assert of[id(net.get_parameter("layer1.0.shift.gtd.query.bias"))] == 2
    assert of[id(net.get_parameter("layer1.0.shift.gtd.query.weight"))] == 1


def test_an_update_takes_the_rates_of_the_groups_and_the_decay_of_the_average(tmp_path: Path) -> None:
    changes = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0.1, "clip_norm": None, "head_rate": 5}
    part = PART | {"steps": 4, "drops": (2,), "learning_rate": 0.5}
    trainer = trainer_of(recipe_of(parts=[part], average=0.75, **changes), tmp_path)
    weight = trainer.net.fc.weight
    averages: list[torch.Tensor] = []
    for step, rate in enumerate((2.5, 2.5, 0.25)):
        trainer.gradients(first_batch(trainer))
        assert weight.grad is not None
        before = weight.detach().clone()
        assert trainer.update() == pytest.approx(rate / 5)
        torch.testing.assert_close(weight.detach(), before - rate * (weight.grad + 0.1 * before))
        averages.append(weight.detach().clone() if step == 0 else 0.75 * averages[-1] + 0.25 * weight.detach())
        torch.testing.assert_close(trainer.averaged.fc.weight.detach(), averages[-1])


def test_the_next_part_begins_with_the_average_and_a_fresh_optimiser(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(average=0.75), tmp_path)
    for _ in range(2):
        trainer.gradients(first_batch(trainer))
        last = trainer.averaged
        assert trainer.optimizer.state or trainer.step == 0
        trainer.update()
    assert same(trainer.net.state_dict(), last.state_dict())
    assert not trainer.optimizer.state
    assert trainer.average.n_averaged == 0


def test_gradients_are_clipped_to_the_recipes_length(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(clip_norm=0.01), tmp_path)
    trainer.gradients(first_batch(trainer))
    trainer.update()
    lengths = [p.grad.norm() for p in trainer.net.parameters() if p.grad is not None]
    assert torch.stack(lengths).norm() == pytest.approx(0.01, rel=1e-3)


# ------------------------------------------------------------------------------------------------ freezing, teachers


def test_what_is_frozen_keeps_its_weights_and_running_statistics(tmp_path: Path) -> None:
    recipe = recipe_of(freeze=["conv1", "bn1", "layer1", "layer2.0"], parts=[PART | {"steps": 6}], weight_decay=0.1)
    trainer = trainer_of(recipe, tmp_path)
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    for _ in range(2):
        trainer.gradients(first_batch(trainer))
        trainer.update()
    after = trainer.net.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if name.startswith(recipe.freeze)]
    assert moved >= {"fc.weight", "layer2.1.conv1.weight", "layer2.1.bn1.running_mean", "layer4.1.bn2.running_var"}


def test_a_students_answers_move_towards_its_teachers(tmp_path: Path) -> None:
    teacher = write_checkpoint(tmp_path, bias=2.0, labels=LABELS)
    recipe = recipe_of(distill_from=str(teacher), distill_weight=1.0, parts=[PART | {"steps": 60}])
    trainer = trainer_of(recipe, tmp_path)
    batch = first_batch(trainer)
    assert trainer.teacher is not None
    assert not trainer.teacher.training
    losses = []
    for _ in range(20):
        losses.append(trainer.gradients(batch)[0])
        trainer.update()
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.grad is None for parameter in trainer.teacher.parameters())
    assert trainer.gradients(batch._replace(clips=batch.clips[:0], labels=batch.labels[:0])) == (0, 0)


def test_the_divergence_is_zero_from_oneself_and_asks_the_last_frame_of_longer_clips() -> None:
    logits = torch.randn(3, 4, 5)
    assert float(divergence(logits, logits.mean(1), 4, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(logits, logits[:, -1], 3, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(logits, logits.mean(1) + torch.tensor([5.0, 0, 0, 0, 0]), 4, 2.0)) > 0.1


def test_what_says_that_nothing_happens_is_the_background_of_what_is_trained() -> None:
    for labels, events in ((("wave", "nothing"), {"background": ("nothing",)}), (("wave", "clap"), {})):
        assert spec_of(recipe_of(), labels, "mine", {}).events == events
