"""The picture of a confusion matrix, looked at pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.errors import ToolError
from tools.evaluate.figures import INK, Picture, cell_box, colour, confusion_picture, write_confusion

LABELS = ("still", "moving left", "turning counterclockwise")
CONFUSION = np.array([[4, 0, 0], [1, 2, 1], [0, 0, 0]])


def corner(picture: Picture, row: int, column: int, labels: tuple[str, ...] = LABELS) -> tuple[int, ...]:
    """The colour of a cell, where no text is."""
    left, top, _, _ = cell_box(row, column, labels)
    return tuple(int(value) for value in picture[top + 2, left + 2])


def test_a_cell_has_the_colour_of_its_share_of_the_row() -> None:
    picture = confusion_picture(CONFUSION, LABELS, "frames")
    shares = np.array([[1, 0, 0], [0.25, 0.5, 0.25], [0, 0, 0]])
    for row, column in np.ndindex(3, 3):
        assert corner(picture, row, column) == colour(float(shares[row, column]))
    assert colour(0) == (255, 255, 255)
    assert sum(colour(1)) < sum(colour(0.5)) < sum(colour(0.25)) < sum(colour(0))


def test_percentages_stand_in_cells_that_have_some() -> None:
    picture = confusion_picture(CONFUSION, LABELS, "frames")
    for row, column, text in ((0, 0, True), (1, 1, True), (1, 0, True), (0, 1, False), (2, 2, False)):
        left, top, right, bottom = cell_box(row, column, LABELS)
        inside = picture[top + 2 : bottom - 2, left + 2 : right - 2].reshape(-1, 3)
        assert (len(np.unique(inside, axis=0)) > 1) == text


def test_labels_stand_beside_every_row_and_column() -> None:
    picture = confusion_picture(CONFUSION, LABELS, "frames")
    darkest = sum(INK) / 3 + 40
    for number in range(3):
        left, top, right, bottom = cell_box(number, number, LABELS)
        first_left, first_top, _, _ = cell_box(0, 0, LABELS)
        assert picture[top:bottom, :first_left].min() < darkest
        assert picture[first_top - 40 : first_top, left:right].min() < darkest


def test_nothing_is_drawn_beyond_the_picture_or_on_top_of_the_matrix() -> None:
    picture = confusion_picture(CONFUSION, LABELS, "frames")
    _, _, right, bottom = cell_box(2, 2, LABELS)
    assert picture.shape[0] > bottom
    assert picture.shape[1] > right
    for edge in (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:]):
        assert (edge == 255).all()


@pytest.mark.parametrize("classes", [1, 27, 60, 174, 400])
def test_any_number_of_classes_fits_a_picture(classes: int) -> None:
    labels = tuple(f"class {number}" for number in range(classes))
    picture = confusion_picture(np.eye(classes, dtype=np.int64), labels, "clips")
    assert max(picture.shape) < 1900
    assert corner(picture, classes - 1, classes - 1, labels) == colour(1)
    left, top, right, bottom = cell_box(0, 0, labels)
    assert right - left == bottom - top >= 3


def test_the_written_picture_is_the_drawn_one(tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    write_confusion(path, CONFUSION, LABELS, "frames")
    np.testing.assert_array_equal(cv2.imread(str(path)), confusion_picture(CONFUSION, LABELS, "frames"))


@pytest.mark.parametrize("name", ["no_such_folder/confusion.png", "confusion.xyz", "confusion"])
def test_a_picture_that_cannot_be_written_says_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolError, match=r"(cannot write the picture|--confusion) .*confusion"):
        write_confusion(tmp_path / name, CONFUSION, LABELS, "frames")
