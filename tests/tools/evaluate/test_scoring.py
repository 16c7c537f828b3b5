"""The score of a clip is the same whoever computes it: the whole network, its steps, the exported graph."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engines import load_engine
from tests.engines.checkpoint import write_checkpoint
from tools.errors import ToolError
from tools.evaluate.scoring import drawn_size, measure_drawn, score_clips, step_clips
from tools.motion.clips import motion_clips
from tools.motion.paths import LABELS

torch.set_num_threads(1)


def test_the_exported_graph_scores_a_clip_as_the_whole_network_does() -> None:
    pictures, _ = motion_clips(2, 12, 112, seed=1)
    stepwise = score_clips(load_engine("default", precision="fp32"), pictures)
    whole = score_clips(load_engine("default", "eager"), pictures)
    assert stepwise.shape == (2, len(LABELS))
    np.testing.assert_allclose(stepwise, whole, atol=1e-3)


@pytest.mark.parametrize("mode", ["stream", "window"])
def test_a_clip_of_t_frames_has_the_score_of_the_network_whoever_runs_it(tmp_path: Path, mode: str) -> None:
    engine = load_engine(write_checkpoint(tmp_path, mode=mode))
    pictures = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    logits, ready = step_clips(engine, pictures.permute(0, 1, 3, 4, 2).numpy()[..., ::-1])
    assert ready.tolist() == [[False, False, False, True]] * 2
    expected = logits[:, -1] if mode == "window" else logits.mean(1)
    np.testing.assert_allclose(score_clips(engine, pictures), expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["stream", "window"])
def test_a_longer_clip_has_the_mean_of_what_a_stream_is_told(tmp_path: Path, mode: str) -> None:
    engine = load_engine(write_checkpoint(tmp_path, mode=mode))
    pictures = torch.randint(0, 256, (2, 7, 3, 32, 32), dtype=torch.uint8)
    logits, _ = step_clips(engine, pictures.permute(0, 1, 3, 4, 2).numpy()[..., ::-1])
    np.testing.assert_allclose(score_clips(engine, pictures), logits[:, 3:].mean(1), atol=1e-4)


def test_a_long_clip_goes_over_windows_only_in_their_own_size(tmp_path: Path) -> None:
    engine = load_engine(write_checkpoint(tmp_path))
    with pytest.raises(ToolError, match="weights takes pictures of 32x32, not of 40x48"):
        score_clips(engine, torch.zeros(1, 7, 3, 48, 40, dtype=torch.uint8))


def test_pictures_are_drawn_no_smaller_than_the_model_takes_them() -> None:
    spec = load_engine("default", "scripted").spec
    for height, width, size in ((112, 112, 112), (100, 60, 104), (60, 113, 120)):
        assert drawn_size(msgspec.structs.replace(spec, height=height, width=width)) == size


def test_drawn_clips_are_fitted_to_a_model_of_another_size(tmp_path: Path) -> None:
    small = write_checkpoint(tmp_path, mode="stream", labels=LABELS, height=30, width=40)
    of_frames, of_clips = measure_drawn(load_engine(small), 80, seed=1)
    again, _ = measure_drawn(load_engine(small), 80, seed=1)
    assert of_frames.tolist() == again.tolist()
    assert of_frames.sum() > 500
    assert 30 < of_clips.sum() <= 40
    assert (of_frames.sum(1) > 0).all()
