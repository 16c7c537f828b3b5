"""The moving picture of README.md."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from .pages import ROOT

pytest.importorskip("torch", reason="pip install '.[train]'")

from tools.docs.film import HEIGHT, SCENE_FPS, SCENE_PX, SHRINK, WIDTH, draw_scene, write_webp  # after torch was found


def test_a_film_moves_repeats_and_keeps_its_time(tmp_path: Path) -> None:
    shades = (0, 120, 240)
    path = tmp_path / "film.webp"
    write_webp(path, [np.full((HEIGHT, WIDTH, 3), shade, np.uint8) for shade in shades], 0.6, 60)
    read, film = cv2.imreadanimation(str(path))
    assert read
    assert film.loop_count == 0
    assert [frame.shape[:2] for frame in film.frames] == [(round(HEIGHT * SHRINK), round(WIDTH * SHRINK))] * 3
    assert [round(float(frame[..., :3].mean()), -1) for frame in film.frames] == list(shades)
    assert sum(film.durations) == pytest.approx(600, abs=3)


def test_a_scene_is_a_video_of_its_length_in_which_something_moves(tmp_path: Path) -> None:
    draw_scene(tmp_path / "scene.mp4", seed=24, seconds=1.0, whole=1.0)
    with av.open(str(tmp_path / "scene.mp4")) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == SCENE_FPS
    assert pictures[0].shape == (SCENE_PX, SCENE_PX * 16 // 9)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 1


def test_the_moving_picture_is_small_enough_for_a_first_page() -> None:
    assert 0 < (ROOT / "docs" / "pictures" / "live.webp").stat().st_size < 1_500_000
