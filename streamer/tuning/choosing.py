"""Thresholds that find the most of what happens for a number of false events an hour.

Every label is tried at every threshold, all labels alike, with and without a share for what is unknown. That gives how
much of each label is found, and how many false events it makes; from these the best threshold of each label follows,
within a budget of false events for all. Labels get in each other's way, so the choice is tried, and false events above
the budget make it stricter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.config import EventConfig, LabelRule
from streamer.labels.events import resolved
from streamer.tuning.listening import Heard, matching
from streamer.tuning.matching import Matching

ENTERS = (0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
LEAVE_SHARE = 0.6  # of `enter`: `leave` is that at most, so that an event does not end as it starts
UNKNOWN_QUANTILES = (0.02, 0.1, 0.2, 0.4)  # of how clear the segments are, at their clearest
UNKNOWN_GAIN = 0.01  # recall that a share for the unknown must bring, or it is left out
STRICTER_STEPS = 40
MOST_FALSE = 2000  # that a curve shows
CERTAIN = 1.645  # standard deviations: 95 %

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Truths:
    """The recordings that thresholds are chosen on, `base` the configuration but for the thresholds.

    segments [K]  how often each label happens
    """

    heard: Sequence[Heard]
    labels: Sequence[str]
    base: EventConfig
    segments: Counts = field(init=False)
    hours: float = field(init=False)

    def __post_init__(self) -> None:
        found = [one.label for heard in self.heard for one in heard.segments if one.label not in self.base.background]
        object.__setattr__(self, "segments", np.array([found.count(label) for label in self.labels]))
        object.__setattr__(self, "hours", sum(heard.length_s for heard in self.heard) / 3600)

    def matching(self, config: EventConfig) -> Matching:
        """The events of all recordings."""
        return sum((matching(heard, self.labels, config) for heard in self.heard), Matching())


@dataclass(frozen=True)
class Table:
    """What every threshold of ENTERS does in every recording: hits and false events [R, E, K], with a share for the
    unknown or without.
    """

    unknown: float | None
    hits: Counts
    false: Counts

    def of(self, recordings: Sequence[int]) -> Table:
        """Of some of the recordings."""
        return Table(self.unknown, self.hits[recordings], self.false[recordings])


@dataclass(frozen=True)
class Choice:
    """The thresholds, and what they do on the recordings that they were chosen on."""

    config: EventConfig
    table: Table
    matching: Matching


def tabulate(truths: Truths, unknown: float | None) -> Table:
    """Try every threshold for all labels."""
    hits, false = np.zeros((2, len(truths.heard), len(ENTERS), len(truths.labels)), np.int64)
    for row in range(len(ENTERS)):
        config = with_thresholds(truths, [row] * len(truths.labels), unknown)
        for number, heard in enumerate(truths.heard):
            found = matching(heard, truths.labels, config)
            for column, label in enumerate(truths.labels):
                one = found.of(label)
                hits[number, row, column], false[number, row, column] = len(one.hits), len(one.false)
    return Table(unknown, hits, false)


def with_thresholds(truths: Truths, rows: Sequence[int], unknown: float | None) -> EventConfig:
    """The base configuration with a threshold of ENTERS for each label, and a share for the unknown."""
    base = resolved(truths.base)
    rules = {}
    for label, row in zip(truths.labels, rows, strict=True):
        if label in base.background:
            continue
        own = base.labels.get(label, LabelRule())
        leave = base.leave if own.leave is None else own.leave
        leave = round(min(leave, LEAVE_SHARE * ENTERS[row]), 3)
        rules[label] = own.model_copy(update={"enter": ENTERS[row], "leave": leave})
    return truths.base.model_copy(update={"labels": rules, "unknown": unknown})


def unknowns(truths: Truths) -> Iterator[float | None]:
    """Logits of the unknown that are worth a try: none, and those that some of the segments do not reach."""
    yield None
    clearest = []
    for heard in truths.heard:
        most = heard.logits.max(1, keepdims=True, initial=-np.inf)
        energies = most[:, 0] + np.log(np.exp(heard.logits - most).sum(1))
        for segment in heard.segments:
            during = (heard.times_us >= segment.start_s * 1e6) & (heard.times_us <= segment.end_s * 1e6)
            if during.any() and segment.label not in truths.base.background:
                clearest.append(energies[during].max())
    for quantile in UNKNOWN_QUANTILES if clearest else ():
        yield round(float(np.quantile(clearest, quantile)) - 1, 2)  # sigmoid(1): 73 % are left of such a segment


def choose(truths: Truths, false_per_hour: float, tried: Callable[[], None] = lambda: None) -> Choice:
    """The best thresholds. `tried` is called after each round of tries, of which there are as many as unknowns."""
    budget = int(false_per_hour * truths.hours)
    best: Choice | None = None
    for unknown in dict.fromkeys(unknowns(truths)):
        table = tabulate(truths, unknown)
        tried()
        choice = tighten(truths, table, within(table, truths, budget), budget)
        if best is None or _value(truths, choice, budget) > _value(truths, best, budget):
            best = choice
    assert best is not None  # None is always tried
    return best


def _value(truths: Truths, choice: Choice, budget: int) -> tuple[bool, float]:
    """Whether a choice keeps within the budget, and its recall, less what a share for the unknown must bring."""
    cost = 0.0 if choice.table.unknown is None else UNKNOWN_GAIN
    return len(choice.matching.false) <= budget, mean_recall(truths, choice.matching) - cost


def mean_recall(truths: Truths, found: Matching) -> float:
    """The mean over the labels that happen, so that none is given up because it is rare."""
    recalls = [found.of(label).recall for label, count in zip(truths.labels, truths.segments, strict=True) if count]
    return float(np.mean(recalls)) if recalls else 0.0


@dataclass(frozen=True)
class _Way:
    """A threshold for each of the labels so far, their recall, and how far they are from those in use."""

    rows: tuple[int, ...] = ()
    recall: float = 0.0
    distance: float = 0.0

    @property
    def rank(self) -> tuple[float, float]:
        return round(self.recall, 9), -self.distance


def ways(table: Table, truths: Truths, budget: int) -> dict[int, _Way]:
    """For each number of false events up to the budget the best thresholds that make as many in all.

    Labels are added one after another. Where even the highest thresholds make more, these are the only ones.
    """
    base = resolved(truths.base)
    hits, false = table.hits.sum(0), table.false.sum(0)  # [E, K]
    found, least = {0: _Way()}, 0
    for column, label in enumerate(truths.labels):
        used = base.labels.get(label, LabelRule()).enter or base.enter
        recalls = hits[:, column] / max(1, truths.segments[column])
        least += int(false[:, column].min())
        better: dict[int, _Way] = {}
        for spent, way in found.items():
            for row, enter in enumerate(ENTERS):
                total = spent + int(false[row, column])
                if total > max(budget, least):
                    continue
                one = _Way((*way.rows, row), way.recall + float(recalls[row]), way.distance + abs(enter - used))
                if total not in better or one.rank > better[total].rank:
                    better[total] = one
        found = better
    return found


def within(table: Table, truths: Truths, budget: int) -> tuple[int, ...]:
    """The thresholds, one for each label, of the highest mean recall with at most so many false events in all; of
    equals those with the fewest, and then those nearest to the thresholds in use.
    """
    found = ways(table, truths, budget)
    return found[max(found, key=lambda total: (found[total].rank[0], -total))].rows


def tighten(truths: Truths, table: Table, first: Sequence[int], budget: int) -> Choice:
    """Try the thresholds together, and raise that of the label with the most false events while there are too many."""
    rows = list(first)
    for _ in range(STRICTER_STEPS):
        config = with_thresholds(truths, rows, table.unknown)
        found = truths.matching(config)
        false = np.array([len(found.of(label).false) for label in truths.labels])
        false[np.array(rows) == len(ENTERS) - 1] = 0
        if len(found.false) <= budget or not false.any():
            break
        rows[int(false.argmax())] += 1
    return Choice(config, table, found)


def left_out(truths: Truths, choice: Choice, false_per_hour: float, folds: int = 5) -> Matching | None:
    """What thresholds chosen in the same way on the other recordings do on a fifth of them, all fifths together; None
    for a single recording.
    """
    folds = min(folds, len(truths.heard))
    if folds < 2:
        return None
    found = Matching()
    for fold in range(folds):
        others = [number for number in range(len(truths.heard)) if number % folds != fold]
        learned = Truths([truths.heard[number] for number in others], truths.labels, truths.base)
        rows = within(choice.table.of(others), learned, int(false_per_hour * learned.hours))
        config = with_thresholds(truths, rows, choice.table.unknown)
        found += Truths(truths.heard[fold::folds], truths.labels, truths.base).matching(config)
    return found


def frontier(truths: Truths, table: Table) -> list[tuple[float, float]]:
    """False events an hour and recall of the best choices, all labels together; one is better than all before it."""
    points: list[tuple[float, float]] = []
    for total, way in sorted(ways(table, truths, MOST_FALSE).items()):
        hits = sum(int(table.hits[:, row, column].sum()) for column, row in enumerate(way.rows))
        points.append((total / truths.hours, hits / max(1, int(truths.segments.sum()))))
    return _rising(points)


def label_curve(truths: Truths, table: Table, column: int) -> list[tuple[float, float]]:
    """The same for one label alone."""
    hits, false = table.hits[:, :, column].sum(0), table.false[:, :, column].sum(0)
    points = zip((false / truths.hours).tolist(), (hits / max(1, int(truths.segments[column]))).tolist(), strict=True)
    return _rising(sorted(points, key=lambda point: (point[0], -point[1])))


def _rising(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept


def at_most(count: int, hours: float) -> float:
    """False events an hour that there are at most, with 95 % certainty, if `count` were seen in so many hours.

    The upper limit of a Poisson rate (Wilson and Hilferty's approximation of the chi-squared distribution).
    """
    n = count + 1
    return float(n * (1 - 1 / (9 * n) + CERTAIN / (3 * n**0.5)) ** 3 / hours)
