"""Figures of merit against cases counted by hand, and laws that hold for any input."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluate.metrics import (
    Ages,
    Detection,
    Matching,
    Segment,
    accuracy,
    class_accuracies,
    confusion_matrix,
    in_top,
    match_events,
)


def test_a_confusion_matrix_has_true_labels_in_rows() -> None:
    confusion = confusion_matrix(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 3)
    assert confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert accuracy(confusion) == 0.5
    np.testing.assert_allclose(class_accuracies(confusion), [1 / 3, np.nan, 1])


def test_of_nothing_there_is_no_accuracy() -> None:
    assert np.isnan(accuracy(np.zeros((2, 2), np.int64)))
    nothing = Matching()
    assert np.isnan([nothing.f1, nothing.precision, nothing.recall, nothing.delay_s(50)]).all()


def test_the_true_label_is_among_the_k_best_or_not() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.0, 0.0, 0.0]])
    labels = np.array([1, 2, 0, 1])
    assert in_top(scores, labels, 1).tolist() == [True, False, False, False]
    assert in_top(scores, labels, 2).tolist() == [True, True, False, True]  # equal scores: the first ones are the best
    assert in_top(scores, labels, 5).all()


SCORES = st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=20)


@given(SCORES, st.integers(0, 3))
def test_top_1_is_argmax_and_more_places_never_lose_a_hit(rows: list[list[int]], label: int) -> None:
    scores, labels = np.array(rows, np.float64), np.full(len(rows), label)
    assert in_top(scores, labels, 1).tolist() == (scores.argmax(1) == labels).tolist()
    counts = [int(in_top(scores, labels, k).sum()) for k in range(1, 5)]
    assert counts == sorted(counts)
    assert counts[-1] == len(rows)
    confusion = confusion_matrix(labels, scores.argmax(1), 4)
    assert accuracy(confusion) == pytest.approx(counts[0] / len(rows))


# ---------------------------------------------------------------------------------------------------------- events


def event(label: str, start_s: float, told_s: float | None = None) -> Detection:
    return Detection(label, start_s, start_s if told_s is None else told_s)


def test_events_are_matched_as_counted_by_hand() -> None:
    wave, nod, late, lost = Segment("wave", 1, 2), Segment("nod", 2, 3), Segment("wave", 4, 5), Segment("nod", 8, 9)
    right, right_too, again = event("wave", 1.2, 1.5), event("wave", 5.2, 5.4), event("wave", 1.8)
    early, other, after = event("nod", 1.9), event("wave", 2.9), event("nod", 9.4)
    found = match_events([wave, nod, late, lost], [right, right_too, again, early, other, after])
    assert found.hits == ((wave, right), (late, right_too))
    assert found.false == (again, early, other, after)
    assert found.missed == (nod, lost)
    assert found.precision == pytest.approx(2 / 6)
    assert found.recall == pytest.approx(2 / 4)
    assert found.f1 == pytest.approx(4 / 10)
    assert found.delay_s(50) == pytest.approx((0.5 + 1.4) / 2)
    assert found.of("wave") == Matching(found.hits, (again, other), ())
    assert found.of("nod") == Matching((), (early, after), (nod, lost))
    assert found.of("wave") + found.of("nod") == Matching(found.hits, (again, other, early, after), found.missed)


def test_an_event_may_begin_a_tolerance_after_the_end_but_not_before_the_onset() -> None:
    wave = Segment("wave", 1, 2)
    for start_s, hits in ((0.99, 0), (1, 1), (2.3, 1), (2.31, 0)):
        assert len(match_events([wave], [event("wave", start_s)], tolerance_s=0.3).hits) == hits


def test_an_event_that_two_segments_could_have_leaves_the_later_one_to_the_next() -> None:
    first, second = Segment("wave", 1, 2), Segment("wave", 2.1, 3)
    found = match_events([second, first], [event("wave", 2.2), event("wave", 2.5)])
    assert [segment for segment, _ in found.hits] == [first, second]


def test_an_oracle_is_perfect_and_one_that_lags_is_late_by_its_lag() -> None:
    segments = [Segment("ab"[n % 2], n, n + 1) for n in range(20)]
    found = match_events(segments, [event(s.label, s.start_s + 0.1, s.start_s + 0.4) for s in segments])
    assert found.f1 == 1
    assert found.delay_s(50) == pytest.approx(0.4)
    assert found.delay_s(90) == pytest.approx(0.4)


TIMES = st.integers(0, 8).map(float)
EVENTS = st.lists(st.builds(event, st.sampled_from("ab"), TIMES), max_size=4)
SEGMENTS = st.lists(
    st.builds(lambda label, start, length: Segment(label, start, start + length), st.sampled_from("ab"), TIMES, TIMES),
    max_size=4,
)


@given(SEGMENTS, EVENTS)
def test_no_other_choice_makes_more_hits(segments: list[Segment], events: list[Detection]) -> None:
    def fits(segment: Segment | None, event: Detection) -> bool:
        return (
            segment is not None
            and segment.label == event.label
            and segment.start_s <= event.start_s <= segment.end_s + 0.3
        )

    found = match_events(segments, events)
    assert all(fits(segment, event) for segment, event in found.hits)
    places = [*segments, *[None] * len(events)]
    best = max(
        sum(fits(segment, event) for segment, event in zip(order, events, strict=True))
        for order in permutations(places, len(events))
    )
    assert len(found.hits) == best


@given(SEGMENTS, EVENTS)
def test_every_event_and_every_segment_is_counted_once(segments: list[Segment], events: list[Detection]) -> None:
    found = match_events(segments, events)
    counted = [*(event for _, event in found.hits), *found.false]
    assert sorted(counted, key=repr) == sorted(events, key=repr)
    asked = [*(segment for segment, _ in found.hits), *found.missed]
    assert sorted(asked, key=repr) == sorted(segments, key=repr)


# ---------------------------------------------------------------------------------------- accuracy since the onset


def test_answers_are_counted_by_their_age() -> None:
    ages = Ages(rows=4)
    for age_s, right in ((0.0, False), (0.3 - 0.2, True), (12.2 - 12.0, True), (0.25, False), (0.3, True), (9.0, True)):
        ages.add(age_s, right)
    assert ages.asked.tolist() == [1, 1, 2, 2]
    assert ages.right.tolist() == [0, 1, 1, 2]
    assert ages.accuracy == pytest.approx(4 / 6)


def test_the_table_leaves_out_ages_that_nobody_asked_for() -> None:
    ages = Ages(rows=3)
    ages.add(0.1, True)
    ages.add(0.1, False)
    ages.add(5.0, True)
    assert [" ".join(line.split()) for line in ages.lines()] == [
        "0.1 s to 0.2 s 50.0% of 2",
        "0.2 s to on 100.0% of 1",
    ]
