"""Cuts and distortions: exact places, one draw for a whole clip, nothing that was not asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engines.training.augment import (
    PLACES,
    Augment,
    Image,
    centre,
    distort,
    multi_scale_crop,
    resized,
    scaled,
    three_crops,
)


def ramp(height: int, width: int, frames: int = 2) -> Image:
    """A clip whose pixels tell their places: (row, column, frame)."""
    planes = np.broadcast_arrays(np.arange(height)[None, :, None], np.arange(width), np.arange(frames)[:, None, None])
    return np.stack(planes, axis=3).astype(np.uint8)


def checks(frames: int = 3, size: int = 32) -> Image:
    """A clip of coloured squares, all frames alike."""
    frame = np.random.default_rng(0).integers(40, 216, (size // 8, size // 8, 3), np.uint8)
    return np.repeat(frame.repeat(8, axis=0).repeat(8, axis=1)[None], frames, axis=0)


def test_there_are_thirteen_places_and_none_is_beside_another() -> None:
    assert len(set(PLACES)) == 13
    assert {(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (2, 0), (1, 3)} < set(PLACES)
    assert (1, 0) not in PLACES


def test_crops_of_one_scale_are_exactly_at_the_thirteen_places() -> None:
    rng = np.random.default_rng(0)
    crops = [multi_scale_crop(ramp(40, 60), 20, (0.5,), rng) for _ in range(200)]
    assert {(int(crop[0, 0, 0, 1]), int(crop[0, 0, 0, 0])) for crop in crops} == {(10 * x, 5 * y) for x, y in PLACES}
    for crop in crops:
        assert (crop - crop[:1, :1, :1] == ramp(20, 20)).all()


def test_the_sides_of_a_crop_are_of_neighbouring_scales() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        crop = multi_scale_crop(ramp(80, 120), 10, (1.0, 0.75, 0.5), rng).astype(int)
        spans = np.array([crop[0, -1, 0, 0] - crop[0, 0, 0, 0], crop[0, 0, -1, 1] - crop[0, 0, 0, 1]])
        seen.add(tuple((20 * np.rint(spans / 0.9 / 20)).astype(int).tolist()))  # spans are 9/10 of the sides
    assert seen == {(80, 80), (60, 60), (40, 40), (80, 60), (60, 80), (60, 40), (40, 60)}


def test_the_centre_is_cut_from_the_middle() -> None:
    assert centre(ramp(40, 60), 20)[1, 0, 0].tolist() == [10, 20, 1]


@pytest.mark.parametrize(
    ("height", "width", "corners"),
    [(20, 60, [[0, 0], [0, 20], [0, 40]]), (60, 24, [[0, 2], [20, 2], [40, 2]])],
)
def test_three_crops_lie_along_the_longer_side(height: int, width: int, corners: list[list[int]]) -> None:
    crops = three_crops(ramp(height, width), 20)
    assert crops.shape == (3, 2, 20, 20, 3)
    assert crops[:, 0, 0, 0, :2].tolist() == corners


@given(st.integers(20, 90), st.integers(20, 90), st.integers(8, 64))
def test_scaling_gives_the_short_side_and_keeps_the_shape(height: int, width: int, short_side: int) -> None:
    result = scaled(np.zeros((height, width, 3), np.uint8), short_side).shape[:2]
    assert min(result) == short_side
    assert max(result) == pytest.approx(short_side * max(height, width) / min(height, width), abs=0.5)


def test_resizing_ignores_the_shape() -> None:
    assert resized(np.zeros((30, 40, 3), np.uint8), 24, 12).shape == (24, 12, 3)


def test_by_default_nothing_is_distorted() -> None:
    assert (distort(checks(), Augment(), np.random.default_rng(0)) == checks()).all()
    assert Augment().draw_speed(np.random.default_rng(0)) == 1


@pytest.mark.parametrize("effect", ["colour", "rotation", "translation", "erase", "grey", "blur"])
def test_what_is_done_to_one_frame_is_done_to_all(effect: str) -> None:
    augment = Augment.model_validate({effect: 20 if effect == "rotation" else 1})
    for seed in range(5):
        result = distort(checks(), augment, np.random.default_rng(seed))
        assert (result == result[0]).all()
        assert (result != checks()).any()
        assert (result == distort(checks(), augment, np.random.default_rng(seed))).all()


def test_noise_differs_from_frame_to_frame_and_keeps_to_its_strength() -> None:
    result = distort(checks(), Augment(noise=6), np.random.default_rng(1))
    assert (result[0] != result[1]).any()
    assert 0 < (result.astype(float) - checks()).std() < 7


def test_a_grey_clip_has_no_colour_and_keeps_its_brightness() -> None:
    result = distort(checks(), Augment(grey=1), np.random.default_rng(0))
    assert (np.ptp(result, axis=3) <= 1).all()
    assert result.mean() == pytest.approx((checks() @ [0.299, 0.587, 0.114]).mean(), abs=1)


def test_a_shifted_clip_is_the_clip_in_another_place() -> None:
    clip = np.zeros((1, 32, 32, 3), np.uint8)
    clip[:, 14:18, 14:18] = 255
    for seed in range(5):
        rows, columns = np.nonzero(distort(clip, Augment(translation=0.25), np.random.default_rng(seed))[0, :, :, 0])
        assert abs(rows.mean() - 15.5) <= 8.5
        assert abs(columns.mean() - 15.5) <= 8.5


def test_an_erased_rectangle_has_one_colour_and_a_fair_size() -> None:
    for seed in range(10):
        result = distort(checks(), Augment(erase=1), np.random.default_rng(seed))
        changed = (result != checks()).any(axis=3)
        assert 0.005 < changed.mean() < 0.25
        assert len({tuple(colour) for colour in result[changed].tolist()}) == 1


def test_speeds_are_within_their_range_on_both_sides_of_one() -> None:
    rng = np.random.default_rng(0)
    speeds = [Augment(speed=0.5).draw_speed(rng) for _ in range(100)]
    assert 1 / 1.5 <= min(speeds) < 0.8
    assert 1.25 < max(speeds) <= 1.5


@pytest.mark.parametrize("wrong", [{"color": 0.1}, {"colour": 2.0}, {"scales": ()}, {"scales": (1.5,)}, {"noise": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augment(**wrong)
