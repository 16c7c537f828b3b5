"""Pictures of results, drawn with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.errors import ToolError
from tools.evaluate.metrics import Counts, accuracy
from tools.results import write_result

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # BGR

WHITE, INK, PALE = (255, 255, 255), (60, 50, 45), (225, 220, 215)
DEEPEST = (130, 60, 15)  # the colour of a cell with all of its row
FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN = 24  # px, as all that follow
LARGEST_CELL, SIDE = 60, 1400  # of the matrix, which is made to fit into the side
NAMED, COUNTED = 14, 36  # the smallest cells that have room for their labels, and for a percentage
READING = "rows: what it was. columns: what the model said. per cent of the row"


def confusion_picture(confusion: Counts, labels: Sequence[str], what: str) -> Picture:
    """A confusion matrix [K, K] as a picture [H, W, 3] BGR: percentages of each true label, the right ones on the
    diagonal.

    what  names what was counted, for the title: "frames" gives "88.1 % of 13,900 frames"
    Where a cell is: see `cell_box`.
    """
    left, top, _, _ = cell_box(0, 0, labels)
    _, _, right, bottom = cell_box(len(labels) - 1, len(labels) - 1, labels)
    width = max(right, MARGIN + _extent(READING, 0.45)) + MARGIN
    picture = np.full((bottom + MARGIN, width, 3), WHITE, np.uint8)
    title = f"{100 * accuracy(confusion):.1f} % of {confusion.sum():,} {what}"
    cv2.putText(picture, title, (MARGIN, MARGIN + 20), FONT, 0.8, INK, 2, cv2.LINE_AA)
    cv2.putText(picture, READING, (MARGIN, MARGIN + 44), FONT, 0.45, INK, 1, cv2.LINE_AA)
    shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    for row, column in np.ndindex(*shares.shape):
        _draw_cell(picture, cell_box(row, column, labels), float(shares[row, column]))
    if _cell(labels) >= NAMED:
        scale = _scale(labels)
        middles = [round(_cell(labels) * (number + 0.5) + 10 * scale) for number in range(len(labels))]
        for label, middle in zip(labels, middles, strict=True):
            place = (left - 8 - _extent(label, scale), top + middle)
            cv2.putText(picture, label, place, FONT, scale, INK, 1, cv2.LINE_AA)
        turned = np.ascontiguousarray(np.rot90(picture, -1))  # its rows are the columns, its right side was the top
        for label, middle in zip(labels, middles, strict=True):
            place = (turned.shape[1] - top + 8, left + middle)
            cv2.putText(turned, label, place, FONT, scale, INK, 1, cv2.LINE_AA)
        picture = np.ascontiguousarray(np.rot90(turned))
    return picture


def write_confusion(path: Path, confusion: Counts, labels: Sequence[str], what: str) -> None:
    """Write the picture; raises ToolError where it cannot be written."""
    try:
        _, content = cv2.imencode(path.suffix, confusion_picture(confusion, labels, what))
    except cv2.error as error:  # no writer for such a name
        raise ToolError(f"cannot write the picture {path}: give a name that ends in .png") from error
    write_result("--confusion", path, content.tobytes())


def cell_box(row: int, column: int, labels: Sequence[str]) -> tuple[int, int, int, int]:
    """Where a cell is: left, top, right, bottom, px; the last two are the next cells'."""
    cell = _cell(labels)
    names = max(_extent(label, _scale(labels)) for label in labels) + 12 if cell >= NAMED else 0
    x, y = MARGIN + names + column * cell, MARGIN + 64 + names + row * cell
    return x, y, x + cell, y + cell


def colour(share: float) -> Colour:
    """Of a share from 0 (white) to 1; it grows with the root, so that small shares can be seen."""
    b, g, r = (round(255 + share**0.5 * (deepest - 255)) for deepest in DEEPEST)
    return b, g, r


def _cell(labels: Sequence[str]) -> int:
    """The side of a cell."""
    return max(4, min(LARGEST_CELL, SIDE // len(labels)))


def _scale(labels: Sequence[str]) -> float:
    """The size of the labels' text."""
    return min(0.5, _cell(labels) / 34)


def _extent(text: str, scale: float) -> int:
    """The width of text."""
    return int(cv2.getTextSize(text, FONT, scale, 1)[0][0])


def _draw_cell(picture: Picture, box: tuple[int, int, int, int], share: float) -> None:
    """A cell's colour and, where there is room, its frame and its percentage."""
    left, top, right, bottom = box
    picture[top:bottom, left:right] = colour(share)
    if bottom - top >= NAMED:
        cv2.rectangle(picture, (left, top), (right, bottom), PALE, 1)
    percent = f"{100 * share:.0f}"
    if bottom - top >= COUNTED and percent != "0":
        place = ((left + right - _extent(percent, 0.5)) // 2, (top + bottom) // 2 + 6)
        cv2.putText(picture, percent, place, FONT, 0.5, WHITE if share > 0.3 else INK, 1, cv2.LINE_AA)
