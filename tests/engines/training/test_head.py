"""The last layer alone: what it reads is computed once, and the rest is a convex problem."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.training.head import Vectors, choose, imagenet, layer_of, solve, vectors_of

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def drawn_alike() -> None:
    """The same clips whatever ran before."""
    torch.manual_seed(0)


def test_the_layer_is_the_one_with_the_least_loss_and_its_decay_keeps_it_short() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(60, 5, generator=generator) * torch.tensor([1.0, 10, 0.1, 1, 1]) + 7
    labels = (values[:, 2] > values[:, 2].mean()).long()
    layer = solve(values, labels, 2, 0.01)
    assert (layer(values).argmax(1) == labels).float().mean() > 0.9
    deviation = values.std(0)
    short = solve(values, labels, 2, 1.0)
    assert (short.weight * deviation).norm() < 0.5 * (layer.weight * deviation).norm()


def test_a_label_of_many_clips_is_not_preferred_for_that() -> None:
    values = torch.randn(330, 5)
    labels = (torch.arange(330) >= 30).long()
    values[:, 0] += 2.0 * labels
    layer = layer_of([Vectors(values[:, None], labels)], torch.arange(330), 2, 0.01)
    between = torch.tensor([values[:, 0].mean(), 0.0, 0.0, 0.0, 0.0])
    assert (layer(between)[0] - layer(between)[1]).abs() < 0.5


def test_what_is_emphasised_counts_more() -> None:
    values, labels = torch.randn(3000, 2), torch.arange(3000) % 2
    values += 1.0 * labels[:, None]
    plain = solve(values, labels, 2, 1.0)
    first = solve(values, labels, 2, 1.0, emphasis=torch.tensor([5.0, 1.0]))
    assert plain.weight[1, 0] == pytest.approx(float(plain.weight[1, 1]), rel=0.3)
    assert first.weight[1, 0] > 3 * first.weight[1, 1]


def test_held_out_clips_choose_the_decay_and_how_sure_the_answers_are() -> None:
    values, labels = torch.randn(200, 2, 6), torch.arange(200) % 2
    values[:, :, 0] += 9 * labels[:, None]
    rows = torch.arange(200)
    sure = choose([Vectors(values, labels)], rows, rows >= 160, 2)
    assert (sure.decay, sure.accuracy) == (1.0, 1.0)
    values[:, :, 0] = torch.where(torch.rand(200, 1) < 0.7, values[:, :, 0], -values[:, :, 0] + 9)
    unsure = choose([Vectors(values, labels)], rows, rows >= 160, 2)
    assert unsure.accuracy < 1
    assert unsure.sharpness < sure.sharpness
    assert choose([Vectors(values, labels)], rows, rows < 0, 2).decay == 0.3


def test_the_layer_reads_the_same_from_a_clip_as_the_network_answers(backbone: Path) -> None:
    net = imagenet(str(backbone), 2, 4, pooling="statistics").float()
    clip = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    assert vectors_of(net, clip).shape == (5, net.fc.in_features)
