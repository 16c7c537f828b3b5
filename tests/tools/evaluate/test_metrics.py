"""Figures of merit against cases counted by hand, and laws that hold for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluate.metrics import (
    Ages,
    accuracy,
    class_accuracies,
    confusion_matrix,
    in_top,
)


def test_a_confusion_matrix_has_true_labels_in_rows() -> None:
    confusion = confusion_matrix(np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), 3)
    assert confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert accuracy(confusion) == 0.5
    np.testing.assert_allclose(class_accuracies(confusion), [1 / 3, np.nan, 1])


def test_of_nothing_there_is_no_accuracy() -> None:
    assert np.isnan(accuracy(np.zeros((2, 2), np.int64)))


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
