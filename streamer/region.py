"""The shape of a view: a part of the picture, in fractions of its width and height. Pure."""

from __future__ import annotations

import math
from typing import Any

Corner = tuple[float, float]
"""x, y: 0, 0 is the top left of the picture, 1, 1 the bottom right."""

Corners = tuple[Corner, ...]
"""Of a polygon, in their order around it."""

MOST_CORNERS = 64
_FORM = "write left, top, right, bottom, such as [0, 0.2, 0.5, 1], or three corners or more, such as [[0.1, 0.2], ...]"


def corners(value: Any) -> Corners:
    """The corners of a view as somebody wrote it: left, top, right and bottom, or a list of corners.

    Raises ValueError, in a sentence, for what is outside the picture, is empty, or crosses itself.
    """
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(_FORM)
    if not any(isinstance(one, list | tuple) for one in value):
        left, top, right, bottom = _numbers(value, 4)
        if not (left < right and top < bottom):
            raise ValueError("it is empty: left must be less than right, and top less than bottom")
        return (left, top), (right, top), (right, bottom), (left, bottom)
    if not 3 <= len(value) <= MOST_CORNERS:
        raise ValueError(f"a polygon has 3 to {MOST_CORNERS} corners, not {len(value)}")
    polygon = tuple((x, y) for x, y in (_numbers(one, 2) for one in value))
    if _crosses_itself(polygon):
        raise ValueError("its sides cross or touch each other; list its corners in their order around it")
    return polygon


def _numbers(value: Any, count: int) -> list[float]:
    try:
        if isinstance(value, str) or any(isinstance(one, bool) for one in value) or len(value) != count:
            raise ValueError(_FORM)
        found = [float(one) for one in value]
    except (TypeError, ValueError):
        raise ValueError(_FORM) from None
    if outside := [one for one in found if not 0 <= one <= 1]:
        raise ValueError(f"{outside[0]:g} is outside the picture: its edges are 0 and 1, whatever its size")
    return found


def is_box(polygon: Corners) -> bool:
    """Whether it is an upright rectangle: all of its bounding box."""
    xs, ys = zip(*polygon, strict=True)
    return len(polygon) == 4 and math.isclose(_area(polygon), (max(xs) - min(xs)) * (max(ys) - min(ys)))


def _area(polygon: Corners) -> float:
    pairs = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return abs(sum(x * other_y - other_x * y for (x, y), (other_x, other_y) in pairs)) / 2


def _crosses_itself(polygon: Corners) -> bool:
    """Whether two of its sides have a point in common that is not the corner between them."""
    count = len(polygon)
    sides = [(polygon[index], polygon[(index + 1) % count]) for index in range(count)]
    for first in range(count):
        a, b = sides[first]
        _, c = sides[(first + 1) % count]
        if _turn(a, b, c) == 0 and (a[0] - b[0]) * (c[0] - b[0]) + (a[1] - b[1]) * (c[1] - b[1]) >= 0:
            return True  # back on itself, or the same corner twice
        for second in range(first + 2, count - (first == 0)):
            if _meet(*sides[first], *sides[second]):
                return True
    return False


def _turn(a: Corner, b: Corner, c: Corner) -> int:
    """1: from a to b to c it goes one way round; -1: the other way; 0: straight on or back."""
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return 0 if abs(cross) < 1e-12 else (1 if cross > 0 else -1)


def _meet(a: Corner, b: Corner, c: Corner, d: Corner) -> bool:
    """Whether the lines from a to b and from c to d have a point in common."""
    turns = [_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)]
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    ends = (((a, b), c, turns[0]), ((a, b), d, turns[1]), ((c, d), a, turns[2]), ((c, d), b, turns[3]))
    return any(turn == 0 and _between(line, point) for line, point, turn in ends)


def _between(line: tuple[Corner, Corner], point: Corner) -> bool:
    """Whether a point of the endless line through two others lies between them."""
    return all(min(a, b) <= one <= max(a, b) for a, b, one in zip(*line, point, strict=True))
