"""The last layer alone: what it reads is computed once, and then it is solved for, in seconds.

A vector is what the last layer of a network reads at a frame. Vectors of clips that are held out choose the weight
decay, and how sure the answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EngineError
from ..networks import Network, build_network, inverted
from ..networks.checkpoints import read_checkpoint
from .feed import normalise

DECAYS = (0.1, 0.3, 1.0)
SMOOTHING = 0.1  # of the labels
SHARPNESSES = tuple(2 ** (step / 2) for step in range(-4, 11))  # a quarter to 32
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of a clip, after which its answers are asked for
MOMENTS = 2  # of a clip, at which its vectors are learned from: after a half and all of it


@dataclass(frozen=True)
class Look:
    """How a network sees a clip: frames a second, pixels of the square, T."""

    rate_hz: float = 15.0
    size: int = 192
    frames: int = 16


@dataclass(frozen=True)
class Vectors:
    """What the last layer reads of clips.

    values    [N, M, D] at M moments
    labels    [N]
    faults    of those left out
    emphasis  [D] or one number: how much an entry counts, see `solve`
    """

    values: Tensor
    labels: Tensor
    faults: tuple[str, ...] = ()
    emphasis: Tensor | float = 1.0


@dataclass(frozen=True)
class Layer:
    """A linear layer: `weight` [K, D], `bias` [K]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """[..., D] -> [..., K]."""
        return F.linear(vectors, self.weight, self.bias)


def imagenet(path: str, classes: int, frames: int, network: str = "tsn", **options: Any) -> Network:
    """The causal network with the weights of an ImageNet file, the last layer new. Raises EngineError."""
    checkpoint = read_checkpoint(path, "tsn", frames, classes=classes)
    if checkpoint.backbone not in inverted.BACKBONES:
        fit = " or ".join(inverted.BACKBONES)
        raise EngineError(f"{path} holds {checkpoint.backbone}; take a file of {fit}")
    net = build_network(network, checkpoint.backbone, frames, classes, causal=True, dropout=0.0, **options)
    net.load_state_dict(checkpoint.parameters, strict=False)
    return net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@torch.no_grad()
def vectors_of(net: Network, clip: Tensor) -> Tensor:
    """uint8 clip [T, 3, H, W] -> what the last layer reads at each frame of it, [T, D]; in bf16 where that is fast."""
    from ..backends.openvino import has_bf16  # not where networks train on a GPU

    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
        return net.vectors(normalise(clip)[None].contiguous(), {})[0][0].float()


def at_moments(vectors: Tensor) -> Tensor:
    """[T, D] -> those after a half and all of the clip, [2, D]."""
    return vectors[[max(0, round(len(vectors) * (m + 1) / MOMENTS) - 1) for m in range(MOMENTS)]]


def at_shares(vectors: Tensor) -> Tensor:
    """[T, D] -> the moments that are learned from, then the newest frame's after each share of the clip, [2 + 5, D]."""
    ends = [max(1, round(share * len(vectors))) - 1 for share in SHARES]
    return torch.cat([at_moments(vectors), vectors[ends]]).half()


def solve(
    values: Tensor,
    labels: Tensor,
    classes: int,
    decay: float,
    weights: Tensor | None = None,
    emphasis: Tensor | float = 1.0,
    smoothing: float = 0.0,
) -> Layer:
    """The layer with the least cross entropy on vectors [N, D] and smoothed labels, weighted [N] or the mean, plus
    decay / 2 times its squared length, measured on vectors of deviation `emphasis`; the problem is convex, and L-BFGS
    solves it.
    """
    mean = values.mean(0)
    deviation = values.std(0, unbiased=False)
    deviation = deviation + 1e-3 * deviation.mean() + 1e-4 * values.abs().mean(0) + 1e-12  # of what is constant
    deviation = deviation / emphasis
    scaled = (values - mean) / deviation
    weight = torch.zeros(classes, values.shape[1], device=values.device, requires_grad=True)
    bias = torch.zeros(classes, device=values.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=40, line_search_fn="strong_wolfe")

    shares = values.new_ones(len(labels)) if weights is None else weights
    shares = shares / shares.sum()

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = F.cross_entropy(F.linear(scaled, weight, bias), labels, reduction="none", label_smoothing=smoothing)
        value = (errors * shares).sum() + decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    final = (weight / deviation).detach()
    return Layer(final, bias.detach() - final @ mean)


@dataclass(frozen=True)
class Choice:
    """What held-out clips say: the decay that does best, its top-1 on them, and `sharpness_of` their logits."""

    decay: float = DECAYS[len(DECAYS) // 2]
    accuracy: float = float("nan")
    sharpness: float = 1.0


def choose(views: Sequence[Vectors], rows: Tensor, held: Tensor, classes: int) -> Choice:
    """What the clips `held` of `rows` (numbers of clips) say of layers that were learned from the others; of equally
    good decays the largest. With none to hold out, or not all labels among the others, the middle one.
    """
    train, test = rows[~held], rows[held]
    if not len(test) or len(views[0].labels[train].unique()) < classes:
        return Choice()
    layers = {decay: layer_of(views, train, classes, decay) for decay in DECAYS}
    scores = {decay: top1(layer, views[0], test) for decay, layer in layers.items()}
    best = max(reversed(DECAYS), key=lambda decay: scores[decay])
    usable = test[views[0].labels[test] >= 0]
    logits, labels = layers[best](views[0].values[usable, -1].float()), views[0].labels[usable]
    sharpness = sharpness_of(logits, labels, SHARPNESSES)
    return Choice(best, scores[best], sharpness)


def sharpness_of(logits: Tensor, labels: Tensor, factors: Sequence[float]) -> float:
    """The factor of held-out logits [N, K] with which the probabilities are as sure as they are right (temperature
    scaling, Guo et al., ICML 2017).
    """
    return min(factors, key=lambda factor: float(F.cross_entropy(factor * logits, labels)))


def layer_of(views: Sequence[Vectors], rows: Tensor, classes: int, decay: float) -> Layer:
    """The layer for the clips `rows`, learned from all moments of all views of them that could be read.

    How many clips a label has says nothing of a stream: the bias that tells it is left out.
    """
    found, told = [], []
    for view in views:
        usable = rows[view.labels[rows] >= 0]
        found.append(view.values[usable].float().flatten(0, 1))
        told.append(view.labels[usable].repeat_interleave(view.values.shape[1]))
    values, labels = torch.cat(found), torch.cat(told)
    emphasis = views[0].emphasis * values.new_ones(values.shape[1])
    length = emphasis.norm()  # of a vector, as a rule: the solver begins well at vectors of length 1
    layer = solve(values, labels, classes, decay / float(length) ** 2, emphasis=emphasis / length, smoothing=SMOOTHING)
    weight = layer.weight
    return Layer(weight, -weight @ values.mean(0))


def top1(layer: Layer, view: Vectors, rows: Tensor) -> float:
    """The share of the clips `rows` whose mean logits are highest at their label."""
    usable = rows[view.labels[rows] >= 0]
    found = layer(view.values[usable].float()).mean(1).argmax(1)
    return float((found == view.labels[usable]).float().mean())


def joined(view: Vectors, more: Vectors) -> Vectors:
    """The clips of both."""
    values, labels = torch.cat([view.values, more.values]), torch.cat([view.labels, more.labels])
    return replace(view, values=values, labels=labels, faults=view.faults + more.faults)
