"""A few clips of each of five actions, and what can be learned from them when clips of other actions are there, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
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


def with_others(view: Vectors, train: Tensor, learned: Tensor, chosen: list[int]) -> Layer:
    """The layer for the labels `chosen`, numbered, from the clips `learned` and from what those of other labels among
    `train` teach: the nearest mean, measured by their `Whitening`.
    """
    renamed = numbered(view, chosen)
    whitening = Whitening(view, train[renamed.labels[train] < 0])
    known = whitening(view.values[learned].float().flatten(0, 1))
    means = nearest(known, renamed.labels[learned].repeat_interleave(view.values.shape[1]))
    weight = whitening.shorter(means) * whitening.scale  # of vectors as they are, because `shorter` is symmetric
    return Layer(weight, -weight @ whitening.mean)


def shot(view: Vectors, train: Tensor, test: Tensor, clips: int, seed: int) -> float:
    """Top-1 of one draw, with what the other labels teach."""
    learned, asked, chosen = draw(view.labels, train, test, clips, seed)
    return top1(with_others(view, train, learned, chosen), numbered(view, chosen), asked)


class Whitening:
    """Vectors [N, D] with deviation `emphasis` over the clips `rows` of a view, and shorter along the directions in
    which clips of one label of `rows` differ from each other: by 1 / sqrt(1 + the share of their variance / WITHIN).
    """

    def __init__(self, view: Vectors, rows: Tensor) -> None:
        known, labels = view.values[rows].float(), view.labels[rows]
        self.mean, deviation = known.mean((0, 1)), known.std((0, 1))
        self.scale = view.emphasis / (deviation + 1e-3 * deviation.mean() + 1e-12)
        classes = [((known[labels == label] - self.mean) * self.scale).flatten(0, 1) for label in labels.unique()]
        self.within = torch.cat([vectors - vectors.mean(0) for vectors in classes])
        variances, directions = torch.linalg.eigh(self.within @ self.within.T)
        shorter = torch.rsqrt(1 + variances.clamp(min=0) / (WITHIN * variances.sum())) - 1
        self.change = (directions * (shorter / variances.clamp(min=1e-6 * float(variances.max())))) @ directions.T

    def __call__(self, vectors: Tensor) -> Tensor:
        """[N, D] -> [N, D]."""
        return self.shorter((vectors - self.mean) * self.scale)

    def shorter(self, scaled: Tensor) -> Tensor:
        """The same of vectors that have the deviation already."""
        along: Tensor = (scaled @ self.within.T) @ self.change @ self.within
        return scaled + along


def nearest(values: Tensor, labels: Tensor) -> Tensor:
    """For each label the mean [D] of its vectors [N, D], towards which a vector of it points, [LABELS, D]. All vectors
    are taken as long as each other (nearest mean of SimpleShot, Wang et al., arXiv 1911.04623).
    """
    directions = F.normalize(values, dim=1)
    means = torch.stack([directions[labels == label].mean(0) for label in range(LABELS)])
    return F.normalize(means, dim=1)
