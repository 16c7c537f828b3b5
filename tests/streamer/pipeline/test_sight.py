from __future__ import annotations

import msgspec
import numpy as np
import pytest

from streamer.pipeline.ring import Fit, fit
from streamer.pipeline.sight import FILL, Sight
from streamer.region import corners
from streamer.types import Image

from .seeing import SPEC

NET = msgspec.structs.replace(SPEC, height=16, width=20)


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("mode", ["stretch", "crop"])
def test_without_a_view_a_stream_sees_the_whole_picture(mode: Fit) -> None:
    picture, net = noise(48, 64), msgspec.structs.replace(NET, fit=mode)
    np.testing.assert_array_equal(Sight(None, net).cut(picture), fit(picture, 16, 20, mode))
    np.testing.assert_array_equal(Sight(corners([0, 0, 1, 1]), net).cut(picture), fit(picture, 16, 20, mode))


@pytest.mark.parametrize("mode", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(48, 64), (480, 640), (7, 5)])
def test_a_box_is_cut_out_before_it_is_scaled_whatever_the_size_of_the_picture(
    size: tuple[int, int], mode: Fit
) -> None:
    height, width = size
    sight = Sight(corners([0.25, 0.5, 0.75, 1]), msgspec.structs.replace(NET, fit=mode))
    picture = noise(height, width)
    part = picture[height // 2 :, width // 4 : -(-3 * width // 4)]
    np.testing.assert_array_equal(sight.cut(picture), fit(part, 16, 20, mode))
    other = noise(96, 40, 1)  # the camera has changed its resolution
    np.testing.assert_array_equal(sight.cut(other), fit(other[48:, 10:30], 16, 20, mode))


@pytest.mark.parametrize("mode", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(96, 120), (16, 20), (13, 11)])
def test_what_happens_outside_a_polygon_is_not_seen(size: tuple[int, int], mode: Fit) -> None:
    height, width = size
    triangle = corners([[0.1, 0.1], [0.9, 0.2], [0.5, 0.95]])
    sight = Sight(triangle, msgspec.structs.replace(NET, fit=mode))
    one, other = noise(height, width), noise(height, width, 1)
    y, x = np.mgrid[:height, :width]
    inside = np.ones((height, width), bool)
    for (ax, ay), (bx, by) in zip(triangle, (*triangle[1:], triangle[0]), strict=True):
        turn = (bx - ax) * ((y + 0.5) / height - ay) - (by - ay) * ((x + 0.5) / width - ax)
        inside &= turn > -1.5 * np.hypot((bx - ax) / height, (by - ay) / width)  # and what lies next to the sides
    other[inside] = one[inside]
    seen = sight.cut(one)
    np.testing.assert_array_equal(seen, sight.cut(other))
    filled = (seen == FILL).all(-1)
    assert filled[-1, 0]
    assert 0.2 < filled.mean() < 0.9
    changed = one.copy()
    changed[height // 3, width // 2] ^= 255
    assert (sight.cut(changed) != seen).any()


def test_a_picture_is_left_as_it_is() -> None:
    picture = noise(16, 20)
    before = picture.copy()
    for view in ([0, 0, 1, 1], [[0, 0], [1, 0], [0.5, 1]], [0, 0, 0.5, 0.5]):
        Sight(corners(view), NET).cut(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    "view", [[0.5, 0.5, 0.5001, 0.5001], [0.999, 0.999, 1, 1], [[0, 0], [1, 0.001], [1, 0.002]], [0, 0, 0.0001, 1]]
)
def test_a_view_is_a_pixel_wide_at_least(view: list[float]) -> None:
    for size in ((48, 64), (1, 1)):
        seen = Sight(corners(view), NET).cut(np.full((*size, 3), 7, np.uint8))
        assert seen.shape == (16, 20, 3)
        assert (seen == 7).all(-1).any()
