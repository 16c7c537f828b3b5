"""Figures of merit of answers, as pure functions: top-k and per-class accuracy, and accuracy since the onset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.tuning.matching import share

Counts = NDArray[np.int64]
"""A confusion matrix [K, K]: true label by row, given label by column."""


def confusion_matrix(labels: NDArray[np.int64], given: NDArray[np.int64], classes: int) -> Counts:
    """How often each true label [N] was given each label [N] -> [K, K]."""
    return np.bincount(labels * classes + given, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: Counts) -> float:
    """The share of all that got their own label; NaN of nothing."""
    total = int(confusion.sum())
    return int(confusion.trace()) / total if total else float("nan")


def class_accuracies(confusion: Counts) -> NDArray[np.float64]:
    """The share of each true label that got it, [K]; NaN for a label that did not occur."""
    totals = confusion.sum(1)
    return np.where(totals > 0, confusion.diagonal() / np.maximum(1, totals), np.nan)


def in_top(scores: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the true label [N] is among the k highest of its row of scores [N, K] -> [N].

    Equal scores rank in the order of the labels, as `argmax` has it.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray((best == labels[:, None]).any(1))


# ---------------------------------------------------------------------------------------- accuracy since the onset


@dataclass
class Ages:
    """Answers by how long after its onset the motion was asked for: row n counts ages from n to n + 1 times `step_s`,
    the last row also all older ones.
    """

    step_s: float = 0.1
    rows: int = 21
    asked: Counts = field(init=False)
    right: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.asked = np.zeros(self.rows, np.int64)
        self.right = np.zeros(self.rows, np.int64)

    def add(self, age_s: float, right: bool) -> None:
        """Count one answer; age_s >= 0."""
        row = min(self.rows - 1, int(age_s / self.step_s + 1e-6))  # 0.3 / 0.1 is a little less than 3
        self.asked[row] += 1
        self.right[row] += right

    @property
    def accuracy(self) -> float:
        """Of all ages; NaN of nothing."""
        return share(int(self.right.sum()), int(self.asked.sum()))

    def lines(self) -> Sequence[str]:
        """The table: age, accuracy, answers."""
        lines = []
        for row, (asked, right) in enumerate(zip(self.asked.tolist(), self.right.tolist(), strict=True)):
            if asked:
                until = "on" if row == self.rows - 1 else f"{(row + 1) * self.step_s:.1f} s"
                lines.append(f"{row * self.step_s:.1f} s to {until:5}  {right / asked:6.1%} of {asked}")
        return lines
