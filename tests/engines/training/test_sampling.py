"""Which frames a network sees: the papers' formulas, and what a live stream would see."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.training.sampling import dense, steady, uniform

COUNTS, FRAMES = st.integers(1, 400), st.integers(1, 32)


def test_the_test_form_of_uniform_sampling_takes_the_middle_of_each_part() -> None:
    assert uniform(16, 8).tolist() == [[1, 3, 5, 7, 9, 11, 13, 15]]
    assert uniform(30, 8).tolist() == [[1, 5, 9, 13, 16, 20, 24, 28]]
    assert uniform(3, 8).tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]


@given(COUNTS, FRAMES)
def test_the_test_form_of_uniform_sampling_is_the_formula_of_the_papers(count: int, frames: int) -> None:
    tick = count / frames
    assert uniform(count, frames).tolist() == [[int(tick / 2 + tick * i) for i in range(frames)]]


def test_the_second_of_two_uniform_clips_takes_the_beginning_of_each_part() -> None:
    assert uniform(32, 8, clips=2).tolist() == [list(range(2, 32, 4)), list(range(0, 32, 4))]


@given(COUNTS, FRAMES, st.integers(0, 5))
def test_the_training_form_takes_one_frame_of_each_part_or_sorted_ones(count: int, frames: int, seed: int) -> None:
    (chosen,) = uniform(count, frames, np.random.default_rng(seed))
    assert chosen.shape == (frames,)
    if count >= frames:
        assert (chosen // (count // frames)).tolist() == list(range(frames))
    else:
        assert sorted(chosen.tolist()) == chosen.tolist()
        assert 0 <= chosen[0] <= chosen[-1] < count


def test_every_frame_of_a_part_is_drawn_in_training() -> None:
    rng = np.random.default_rng(0)
    drawn = [set(column.tolist()) for column in np.concatenate([uniform(12, 3, rng) for _ in range(100)]).T]
    assert drawn == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}]


def test_dense_sampling_takes_every_eighth_frame_of_64_from_ten_places() -> None:
    chosen = dense(154, 8, clips=10)
    assert chosen[:, 0].tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert (np.diff(chosen, axis=1) == 8).all()
    assert chosen[-1, -1] == 146
    assert dense(154, 16)[0].tolist() == list(range(45, 109, 4))


def test_dense_sampling_repeats_a_short_video() -> None:
    assert dense(20, 8, clips=2).tolist() == [[0, 8, 16, 4, 12, 0, 8, 16]] * 2


def test_dense_sampling_in_training_begins_anywhere_where_the_window_fits() -> None:
    rng = np.random.default_rng(0)
    assert {int(dense(68, 8, rng)[0, 0]) for _ in range(100)} == {0, 1, 2, 3, 4}


def test_steady_sampling_takes_the_frames_that_a_live_stream_would_show() -> None:
    assert steady(30, 4, None, video_fps=30, fps=10).tolist() == [list(range(0, 30, 3))]
    assert steady(8, 4, None, video_fps=25, fps=10).tolist() == [[0, 2, 5, 7]]
    assert steady(4, 4, None, video_fps=5, fps=10).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_steady_sampling_holds_the_last_frame_of_a_short_video() -> None:
    assert steady(5, 6, None, video_fps=20, fps=10).tolist() == [[0, 2, 4, 4, 4, 4]]
    assert steady(5, 6, np.random.default_rng(0), video_fps=20, fps=10).tolist() == [[0, 2, 4, 4, 4, 4]]


@given(st.integers(10, 400), st.integers(1, 8), st.sampled_from([10.0, 12.0, 29.97, 60.0]), st.integers(0, 5))
def test_steady_training_clips_are_evenly_spaced_and_inside(count: int, frames: int, fps: float, seed: int) -> None:
    (chosen,) = steady(count, frames, np.random.default_rng(seed), fps, 10)
    steps = np.diff(chosen[chosen < count - 1])
    assert 0 <= chosen.min() <= chosen.max() < count
    assert all(fps / 10 - 1 < step < fps / 10 + 1 for step in steps)


def test_steady_training_clips_begin_anywhere_where_they_fit() -> None:
    rng = np.random.default_rng(0)
    assert {int(steady(14, 5, rng, 30, 10)[0, 0]) for _ in range(50)} == {0, 1}


def test_the_same_generator_draws_the_same_frames() -> None:
    for draw in (uniform, dense):
        first, second = (draw(90, 8, np.random.default_rng(3)) for _ in range(2))
        assert first.tolist() == second.tolist()
