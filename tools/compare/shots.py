"""A few clips of each of five actions, and what can be learned from them when clips of other actions are there, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engines.training.head import Layer, Vectors, top1
from tools.errors import ToolError

LABELS = 5
CLIPS = (5, 10)
WITHIN = 0.003  # choice


def draw(labels: Tensor, train: Tensor, test: Tensor, clips: int, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Numbers of the clips to learn from, of those to ask about, and the five labels. Raises ToolError for a set that
    has too few.
    """
    rng = np.random.default_rng((seed, clips))
    here = [label for label in labels.unique().tolist() if int((labels[train] == label).sum()) >= clips]
    if len(here) < LABELS:
        raise ToolError(f"only {len(here)} labels have {clips} clips to learn from; {LABELS} are needed")
    chosen = sorted(rng.choice(here, LABELS, replace=False).tolist())
    learned = [rng.choice(train[labels[train] == label].numpy(), clips, replace=False) for label in chosen]
    asked = test[torch.isin(labels[test], torch.tensor(chosen))]
    return torch.from_numpy(np.concatenate(learned)), asked, chosen


def numbered(view: Vectors, chosen: list[int]) -> Vectors:
    """The labels `chosen` become 0, 1 and so on, all others -1."""
    number = torch.full((int(view.labels.max()) + 1,), -1)
    number[chosen] = torch.arange(len(chosen))
    return replace(view, labels=number[view.labels])


def with_others(view: Vectors, train: Tensor, learned: Tensor, chosen: list[int]) -> tuple[Layer, Vectors]:
    """The layer for the labels `chosen` from the clips `learned` and from what those of other labels among `train`
    teach; and the vectors, with numbered labels, that it is for.
    """
    renamed = numbered(view, chosen)
    told = whitened(view, train[renamed.labels[train] < 0])
    layer = ridge(told[learned].flatten(0, 1), renamed.labels[learned].repeat_interleave(told.shape[1]))
    return layer, replace(renamed, values=told)


def shot(view: Vectors, train: Tensor, test: Tensor, clips: int, seed: int) -> float:
    """Top-1 of one draw, with what the other labels teach."""
    learned, asked, chosen = draw(view.labels, train, test, clips, seed)
    layer, renamed = with_others(view, train, learned, chosen)
    return top1(layer, renamed, asked)


def whitened(view: Vectors, rows: Tensor) -> Tensor:
    """All vectors [N, M, D], with deviation `emphasis` over the clips `rows`, and shorter along the directions in which
    clips of one label of `rows` differ from each other: by 1 / sqrt(1 + the share of their variance there / WITHIN).
    """
    known, labels = view.values[rows].float(), view.labels[rows]
    mean, deviation = known.mean((0, 1)), known.std((0, 1))
    scaled = (view.values.float() - mean) / (deviation + 1e-3 * deviation.mean() + 1e-12) * view.emphasis
    classes = [scaled[rows[labels == label]].flatten(0, 1) for label in labels.unique()]
    within = torch.cat([vectors - vectors.mean(0) for vectors in classes])
    variances, directions = torch.linalg.eigh(within @ within.T)
    shorter = torch.rsqrt(1 + variances.clamp(min=0) / (WITHIN * variances.sum())) - 1
    change = (directions * (shorter / variances.clamp(min=1e-6 * float(variances.max())))) @ directions.T
    along: Tensor = (scaled @ within.T) @ change @ within
    return scaled + along


def ridge(values: Tensor, labels: Tensor) -> Layer:
    """The layer with the least squares on vectors [N, D], of which few are there; held back as much as they vary."""
    mean, targets = values.mean(0), torch.nn.functional.one_hot(labels, LABELS).float()
    centred = values - mean
    products = centred @ centred.T
    held = products + products.diagonal().mean() * torch.eye(len(products))
    weight = (centred.T @ torch.linalg.solve(held, targets - targets.mean(0))).T
    return Layer(weight, -weight @ mean)
