"""What the evaluation shows a model: what it would see in a run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines import load_engine
from tests.tools.sets import HEIGHT, WIDTH, numbers, write_frames, write_video
from tools.data import watched as module
from tools.data.clips import TestClips, View
from tools.data.datasets import Video, VideoSet
from tools.data.decode import UnreadableError
from tools.data.watched import watched

SPEC = msgspec.structs.replace(load_engine("default", "scripted").spec, frames=4, height=24, width=40, rate_hz=10.0)


def test_frames_are_taken_at_the_rate_of_the_model_and_fitted_to_its_shape(tmp_path: Path) -> None:
    pictures, damage = watched(write_video(tmp_path / "clip.mp4", 24), SPEC)
    assert (pictures.shape[1:], damage) == ((24, 40, 3), "")
    assert numbers(pictures).tolist() == [0, 3, 6, 9, 12, 15, 18, 21]


def test_pictures_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 2] = 255  # BGR
    pictures, _ = watched(write_video(tmp_path / "red.mp4", [red] * 4), SPEC)
    assert pictures[..., 0].mean() > 200
    assert pictures[..., 1:].mean() < 30


def test_a_short_clip_stands_still_at_its_end(tmp_path: Path) -> None:
    pictures, _ = watched(write_video(tmp_path / "clip.mp4", 5), SPEC)
    assert numbers(pictures).tolist() == [0, 3, 3, 3]


def test_of_a_clip_with_a_gap_the_longest_part_counts(tmp_path: Path) -> None:
    times_s = [0, 0.1, 0.2, *(2 + number / 10 for number in range(6)), 6, 6.1]
    pictures, _ = watched(write_video(tmp_path / "clip.mkv", 11, times_s=times_s), SPEC)
    assert numbers(pictures).tolist() == [3, 4, 5, 6, 7, 8]


def test_a_video_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 5 * 24 * 40 * 3)
    path = write_video(tmp_path / "clip.mp4", 24)
    with pytest.raises(UnreadableError) as refused:
        watched(path, SPEC)
    assert str(refused.value) == f"{path}: its pictures are too many; cut it into shorter clips"


def test_a_file_that_is_no_video_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(UnreadableError, match=f"^{path}: this is not a video"):
        watched(path, SPEC)


def test_folders_of_frames_are_fitted_as_in_a_run_too(tmp_path: Path) -> None:
    videos = VideoSet(("only",), (Video(write_frames(tmp_path / "frames", 8), 0, fps=10),), (0,))
    clip = TestClips(videos, View("steady", 4, 24, fps=10, live=SPEC))[0, 0]
    assert clip.pictures is not None
    assert clip.pictures.shape == (1, 8, 3, 24, 40)
    assert numbers(clip.pictures).tolist() == [list(range(8))]
