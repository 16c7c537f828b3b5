"""What a label becomes when its clip is mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPPOSITE = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
_SIDE = re.compile(
    r"(?<![a-z])(?:(?:left|right)(?=(?:wards?)?(?![a-z]))|(?:counter)?clockwise(?![a-z]))(?! (?:out|away))"
)


def mirror_labels(labels: Sequence[str]) -> tuple[int | None, ...]:
    """For each label the number of the one with left and right, clockwise and counterclockwise exchanged.

    A label without such words is its own mirror image ("right out" and "right away" are none). None where the exchanged
    label does not exist: a clip of that label must not be flipped.
    """
    texts = [re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", label).lower() for label in labels]  # SwipeLeft -> swipe left
    texts = [re.sub(r"(?:counter|anti) ?clockwise", "counterclockwise", text) for text in texts]
    numbers = {text: number for number, text in enumerate(texts)}
    return tuple(numbers.get(_SIDE.sub(lambda side: _OPPOSITE[side[0]], text)) for text in texts)
