"""Figures of merit, as pure functions: top-k and per-class accuracy of clips, and how well events name what happens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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


# ---------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Segment:
    """What really happens from its onset at `start_s` until `end_s`."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Detection:
    """A published event: when it began, by its own account, and when that was told (`told_s` >= `start_s`)."""

    label: str
    start_s: float
    told_s: float


@dataclass(frozen=True)
class Matching:
    """Events beside what really happened; each segment and each event is in it once.

    hits    (segment, its event)
    false   events without a segment
    missed  segments without an event
    """

    hits: tuple[tuple[Segment, Detection], ...] = ()
    false: tuple[Detection, ...] = ()
    missed: tuple[Segment, ...] = ()

    def __add__(self, other: Matching) -> Matching:
        """The matching of both."""
        return Matching(self.hits + other.hits, self.false + other.false, self.missed + other.missed)

    def of(self, label: str) -> Matching:
        """Only what concerns one label."""
        return Matching(
            tuple(pair for pair in self.hits if pair[0].label == label),
            tuple(event for event in self.false if event.label == label),
            tuple(segment for segment in self.missed if segment.label == label),
        )

    @property
    def precision(self) -> float:
        """The share of events that are hits; NaN without events."""
        return _share(len(self.hits), len(self.hits) + len(self.false))

    @property
    def recall(self) -> float:
        """The share of segments that are hit; NaN without segments."""
        return _share(len(self.hits), len(self.hits) + len(self.missed))

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; NaN where there is neither an event nor a segment."""
        return _share(2 * len(self.hits), 2 * len(self.hits) + len(self.false) + len(self.missed))

    def delay_s(self, percent: float) -> float:
        """A percentile of the times to detect, from a segment's onset to when its event was told; NaN without hits."""
        delays = [event.told_s - segment.start_s for segment, event in self.hits]
        return float(np.percentile(delays, percent)) if delays else float("nan")


def match_events(segments: Iterable[Segment], events: Iterable[Detection], tolerance_s: float = 0.3) -> Matching:
    """Find each event's segment: it has the event's label, and the event begins within it or at most `tolerance_s`
    after its end (scores are smoothed in time, so a short motion can be over when its event begins).

    A segment belongs to one event. A second event in it is false: the motion did not happen twice. An event that
    begins before the onset is false, too. Events choose in the order of their starts, and each takes the segment that
    ends first of those it may have; no other choice makes more hits.
    """
    open_segments = sorted(segments, key=lambda segment: segment.end_s)
    hits, false = [], []
    for event in sorted(events, key=lambda event: event.start_s):
        for segment in open_segments:
            last_s = segment.end_s + tolerance_s
            if segment.label == event.label and segment.start_s <= event.start_s <= last_s:
                hits.append((segment, event))
                open_segments.remove(segment)
                break
        else:
            false.append(event)
    return Matching(tuple(hits), tuple(false), tuple(sorted(open_segments, key=lambda segment: segment.start_s)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


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
        return _share(int(self.right.sum()), int(self.asked.sum()))

    def lines(self) -> Sequence[str]:
        """The table: age, accuracy, answers."""
        lines = []
        for row, (asked, right) in enumerate(zip(self.asked.tolist(), self.right.tolist(), strict=True)):
            if asked:
                until = "on" if row == self.rows - 1 else f"{(row + 1) * self.step_s:.1f} s"
                lines.append(f"{row * self.step_s:.1f} s to {until:5}  {right / asked:6.1%} of {asked}")
        return lines
