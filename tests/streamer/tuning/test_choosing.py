"""Thresholds from scores that are made up, so that the best ones are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import EventConfig, LabelRule
from streamer.tuning.choosing import (
    ENTERS,
    Table,
    Truths,
    at_most,
    choose,
    frontier,
    label_curve,
    left_out,
    mean_recall,
    unknowns,
    with_thresholds,
    within,
)
from streamer.tuning.listening import Heard
from streamer.tuning.matching import Segment
from streamer.tuning.truth import Recording

LABELS = ("nothing", "wave", "nod")
BASE = EventConfig(background=("nothing",), smoothing_s=0, enter_s=0.1, refractory_s=0, leave_s=0.1, merge_gap_s=0)
Part = tuple[str, float, bool]  # what the model says for a second, how surely, and whether it is right
REST: Part = ("nothing", 0.9, True)


def heard(parts: Sequence[Part], energy: Sequence[float] | None = None) -> Heard:
    """A recording at 10 answers a second; `energy`: of each part, by how much its logits are raised."""
    rows, segments = [], []
    for second, (label, share, right) in enumerate(parts):
        shares = np.full(len(LABELS), (1 - share) / (len(LABELS) - 1))
        shares[LABELS.index(label)] = share
        rows += [np.log(shares) + (energy[second] if energy else 0.0)] * 10
        if right and label != "nothing":
            segments.append(Segment(label, second, second + 1))
    times_us = 100_000 * np.arange(len(rows))
    recording = Recording(Path("made up"), tuple(segments))
    return Heard(recording, times_us, np.array(rows, np.float32), frozenset(), float(len(parts)))


def played(*parts: Part) -> list[Part]:
    """Each part after a rest."""
    return [one for part in parts for one in (REST, part)]


RIGHT_WAVES = [("wave", share, True) for share in (0.72, 0.82, 0.92)]
FALSE_WAVE = ("wave", 0.78, False)
SCENE = played(*RIGHT_WAVES, FALSE_WAVE, ("nod", 0.45, True), REST)


def enter_of(config: EventConfig, label: str) -> float:
    enter = config.labels[label].enter
    assert enter is not None
    return enter


def test_each_label_gets_the_threshold_that_finds_the_most_within_the_budget() -> None:
    truths = Truths([heard(SCENE)], LABELS, BASE)
    assert truths.segments.tolist() == [0, 3, 1]
    strict = choose(truths, false_per_hour=0)
    assert 0.78 < enter_of(strict.config, "wave") <= 0.82
    assert enter_of(strict.config, "nod") < 0.45
    assert (len(strict.matching.hits), len(strict.matching.false)) == (3, 0)
    assert "nothing" not in strict.config.labels
    one_an_hour = math.ceil(1 / truths.hours)
    loose = choose(truths, false_per_hour=one_an_hour)
    assert enter_of(loose.config, "wave") <= 0.72
    assert (len(loose.matching.hits), len(loose.matching.false)) == (4, 1)
    assert mean_recall(truths, strict.matching) == pytest.approx((2 / 3 + 1) / 2)


def test_an_event_never_ends_as_it_starts_and_other_settings_of_a_label_stay() -> None:
    base = BASE.model_copy(update={"labels": {"wave": LabelRule(max_s=7, leave=0.3)}})
    config = with_thresholds(Truths([heard(SCENE)], LABELS, base), [0] * 3, None)
    assert config.labels == {"wave": LabelRule(enter=0.2, leave=0.12, max_s=7), "nod": LabelRule(enter=0.2, leave=0.12)}
    config = with_thresholds(Truths([heard(SCENE)], LABELS, base), [len(ENTERS) - 1] * 3, 1.5)
    assert (config.labels["wave"].leave, config.labels["nod"].leave, config.unknown) == (0.3, BASE.leave, 1.5)


def test_a_share_for_the_unknown_is_taken_only_if_it_finds_more() -> None:
    without = choose(Truths([heard(SCENE)], LABELS, BASE), 0)
    assert without.config.unknown is None
    parts = played(*[("wave", 0.9, True)] * 3, *[("wave", 0.9, False)] * 3)
    energy = [4.0] * 6 + [0.0] * 6  # what is false is as sure of its label, but not of any
    truths = Truths([heard(parts, energy)], LABELS, BASE)
    choice = choose(truths, 0)
    assert choice.config.unknown is not None
    assert 0 < choice.config.unknown < 4
    assert (len(choice.matching.hits), len(choice.matching.false)) == (3, 0)


def test_without_a_truth_a_label_keeps_its_threshold_unless_it_makes_false_events() -> None:
    parts = played(("wave", 0.9, True), ("nod", 0.75, False))
    choice = choose(Truths([heard(parts)], LABELS, BASE.model_copy(update={"enter": 0.7})), 0)
    assert enter_of(choice.config, "nod") == 0.8
    choice = choose(Truths([heard(played(("wave", 0.9, True)))], LABELS, BASE.model_copy(update={"enter": 0.7})), 0)
    assert enter_of(choice.config, "nod") == 0.7


def test_what_no_threshold_can_help_is_as_high_as_it_goes_and_the_others_are_not_given_up() -> None:
    parts = played(("wave", 0.999, False), ("wave", 0.999, False), ("nod", 0.9, True))
    choice = choose(Truths([heard(parts, [0.0, 9.0, 0.0, 9.0, 0.0, 0.0])], LABELS, BASE), 0)
    assert len(choice.matching.false) == 2
    assert enter_of(choice.config, "wave") == ENTERS[-1]
    assert [segment.label for segment, _ in choice.matching.hits] == ["nod"]


def test_what_was_left_out_is_judged_by_the_others() -> None:
    scenes = [heard(played(*RIGHT_WAVES, ("nod", 0.9, True))), heard(played(*RIGHT_WAVES, FALSE_WAVE))]
    truths = Truths(scenes, LABELS, BASE)
    choice = choose(truths, 0)
    assert len(choice.matching.false) == 0
    others = left_out(truths, choice, 0)
    assert others is not None
    assert [event.label for event in others.false] == ["wave"]  # the first recording does not warn of it
    assert left_out(Truths(scenes[:1], LABELS, BASE), choice, 0) is None


def test_curves_rise_and_lead_from_no_false_event_to_all_that_can_be_found() -> None:
    truths = Truths([heard(SCENE)], LABELS, BASE)
    table = choose(truths, 0).table
    per_hour = 1 / truths.hours
    assert frontier(truths, table) == [(0, 0.75), (pytest.approx(per_hour), 1)]
    assert label_curve(truths, table, 1) == [(0, pytest.approx(2 / 3)), (pytest.approx(per_hour), 1)]


counts = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=len(ENTERS), max_size=len(ENTERS))


@given(counts, counts, st.integers(0, 5))
def test_no_other_thresholds_find_more_within_the_budget(
    hits: list[list[int]], false: list[list[int]], budget: int
) -> None:
    truths = Truths([heard(SCENE)], LABELS[1:], EventConfig())
    made, wrong = np.sort(hits, axis=0)[::-1], np.sort(false, axis=0)[::-1]
    rows = within(Table(None, made[None], wrong[None]), truths, budget)

    def value(rows: Sequence[int]) -> tuple[float, int]:
        found = sum(made[row, column] / max(1, truths.segments[column]) for column, row in enumerate(rows))
        return round(float(found), 9), -sum(int(wrong[row, column]) for column, row in enumerate(rows))

    allowed = max(budget, int(wrong[-1].sum()))
    ways = itertools.product(range(len(ENTERS)), repeat=2)
    assert value(rows) == max(value(way) for way in ways if -value(way)[1] <= allowed)


def test_the_unknown_is_tried_where_some_segments_would_be_lost() -> None:
    parts, energy = played(*RIGHT_WAVES), [0.0, 1.0, 0.0, 2.0, 0.0, 3.0]
    tried = list(unknowns(Truths([heard(parts, energy)], LABELS, BASE)))
    assert tried[0] is None
    assert all(one is not None and -1 <= one <= 3 for one in tried[1:])


@pytest.mark.parametrize(("count", "bound"), [(0, 2.996), (1, 4.744), (5, 10.513), (20, 29.062)])
def test_the_certain_limit_is_that_of_a_poisson_rate(count: int, bound: float) -> None:
    assert at_most(count, 2.0) == pytest.approx(bound / 2, rel=0.02)
