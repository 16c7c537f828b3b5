from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.region import MOST_CORNERS, corners, is_box

SQUARE = ((0.1, 0.2), (0.6, 0.2), (0.6, 0.9), (0.1, 0.9))


def test_a_box_and_a_polygon_are_corners() -> None:
    assert corners([0.1, 0.2, 0.6, 0.9]) == SQUARE
    assert corners(["0.1", "0.2", "0.6", "0.9"]) == SQUARE
    assert corners([list(corner) for corner in SQUARE]) == SQUARE
    assert corners(SQUARE) == SQUARE
    assert corners([[0, 0], [1, 0], [0.5, 1]]) == ((0, 0), (1, 0), (0.5, 1))
    assert corners([[0, 0], [1, 0], [1, 1], [0.5, 0.5], [0, 1]])  # a hollow one
    assert corners([[0, 0], [0.5, 0], [1, 0], [1, 1]])  # a corner on a straight side


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (5, "write left, top, right, bottom, such as"),
        ("bed", "write left, top, right, bottom, such as"),
        ([], "write left, top, right, bottom, such as"),
        ([0, 0, 1], "write left, top, right, bottom, such as"),
        ([0, 0, 1, "x"], "write left, top, right, bottom, such as"),
        ([0, 0, 1, True], "write left, top, right, bottom, such as"),
        ([0, 0, 1, None], "write left, top, right, bottom, such as"),
        ([[0, 0], [1, 0], [1]], "write left, top, right, bottom, such as"),
        ([[0, 0], [1, 0], "11"], "write left, top, right, bottom, such as"),
        ([[0, 0], [1, 0], 5], "write left, top, right, bottom, such as"),
        ([0, 0, 1, 1.01], "1.01 is outside the picture: its edges are 0 and 1"),
        ([-0.1, 0, 1, 1], "-0.1 is outside the picture"),
        ([0, 0, 640, 480], "640 is outside the picture"),
        ([0, 0, 1, math.nan], "nan is outside the picture"),
        ([[0, 0], [1, 0], [0.5, math.inf]], "inf is outside the picture"),
        ([0.5, 0, 0.5, 1], "it is empty: left must be less than right"),
        ([0, 0.9, 1, 0.1], "it is empty: left must be less than right, and top less than bottom"),
        ([[0, 0], [1, 1]], "a polygon has 3 to 64 corners, not 2"),
        ([[n / 100, (n / 100) ** 2] for n in range(MOST_CORNERS + 1)], "a polygon has 3 to 64 corners, not 65"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "its sides cross or touch each other"),
        ([[0, 0], [1, 0], [0.5, 0]], "its sides cross or touch each other"),
        ([[0, 0], [0, 0], [1, 1]], "its sides cross or touch each other"),
        ([[0, 0], [1, 0], [1, 1], [0, 0]], "its sides cross or touch each other"),
        ([[0, 0], [1, 0], [0.5, 1], [0.5, 0]], "its sides cross or touch each other"),  # a corner on another side
        ([[0.5, 0.5]] * 3, "its sides cross or touch each other"),
    ],
)
def test_what_is_no_part_of_a_picture_is_told_in_a_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".+") as told:
        corners(value)
    assert str(told.value).startswith(sentence)
    assert "\n" not in str(told.value)


def test_a_box_is_told_from_another_shape() -> None:
    assert is_box(SQUARE)
    assert is_box(SQUARE[::-1])
    assert not is_box(((0, 0), (1, 0), (0.5, 1)))
    assert not is_box(((0, 0), (1, 0), (1, 1), (0.1, 1)))


@given(st.integers(3, 12), st.floats(0.05, 0.5))
def test_corners_in_their_order_around_a_point_are_a_polygon_whichever_comes_first(count: int, radius: float) -> None:
    angles = [2 * math.pi * number / count for number in range(count)]
    around = [[0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)] for angle in angles]
    around = [[min(1.0, max(0.0, x)), min(1.0, max(0.0, y))] for x, y in around]
    for first in range(count):
        turned = around[first:] + around[:first]
        assert corners(turned) == tuple(map(tuple, turned))
        assert corners(turned[::-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@given(JSON | st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=3, max_size=6))
def test_whatever_is_written_is_a_part_of_the_picture_or_a_sentence(value: Any) -> None:
    with suppress(ValueError):
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in corners(value))
