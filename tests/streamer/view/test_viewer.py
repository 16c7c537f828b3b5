"""How large pictures are for a browser that draws them at its own pace."""

from __future__ import annotations

import pytest

from streamer.view.pictures import LEVELS, jpeg
from streamer.view.viewer import QUICK_PICTURES, Pace

from .peers import opened, picture


def draw(pace: Pace, start_s: float, took_s: float, count: int) -> float:
    for _ in range(count):
        pace.drawn(start_s, start_s + took_s)
        start_s += took_s
    return start_s


def test_a_slow_browser_gets_smaller_pictures_and_larger_ones_when_it_keeps_up() -> None:
    pace = Pace()
    largest = pace.level
    now_s = draw(pace, 100.0, 0.5, 2)
    assert pace.level == largest - 2
    now_s = draw(pace, now_s, 0.5, 20)
    assert pace.level == 0
    now_s = draw(pace, now_s, 0.02, QUICK_PICTURES)
    assert pace.level == 1
    draw(pace, now_s, 0.2, 500)  # neither slow nor quick
    assert pace.level == 1


def test_pictures_that_were_sent_before_a_change_do_not_count() -> None:
    pace = Pace()
    for _ in range(4):  # of four streams, sent together
        pace.drawn(100.0, 101.0)
    assert pace.level == len(LEVELS) - 2


@pytest.mark.parametrize(("width", "height", "shape"), [(1920, 1080, (180, 320, 3)), (160, 128, (128, 160, 3))])
def test_pictures_are_made_smaller_and_never_larger(width: int, height: int, shape: tuple[int, ...]) -> None:
    encoded = jpeg(picture(90, width, height), LEVELS[0])
    assert opened(encoded).shape == shape
