"""The synthetic clips: what they promise, and that each label shows the motion it names."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.training.feed import IGNORE
from tools.motion import textures as draw
from tools.motion.clips import motion_clips, preview, warp
from tools.motion.paths import (
    APPROACHING,
    CLOCKWISE,
    COUNTERCLOCKWISE,
    DOWN,
    LABELS,
    LEFT,
    RECEDING,
    RIGHT,
    SHAKING,
    STILL,
    UP,
    draw_path,
    draw_plan,
)
from tools.motion.paths import (
    Path as Poses,
)

SIZE = 64
AXES = np.mgrid[0:SIZE, 0:SIZE] / (SIZE / 2) - 1  # y, x of each pixel


def path_of(seed: int, frames: int, label: int, motions: int, radius: float, roam: float) -> Poses:
    rng = np.random.default_rng(seed)
    return draw_path(rng, draw_plan(rng, frames, motions, label), 10.0, radius, roam)


def flow_of(clip: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Motion of a clip [T, 3, H, W], weighed by its strength: (x, y, growth, clockwise turn) summed over its frames."""
    greys = [cv2.cvtColor(frame.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY) for frame in clip]
    total = np.zeros(4)
    for before, after in pairwise(greys):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 7, 1.5, 0)  # type: ignore[call-overload]
        weight = np.linalg.norm(flow, axis=2)
        weight /= weight.sum() + 1e-6
        y, x = (axis - (weight * axis).sum() for axis in AXES)
        along_x, along_y = flow[..., 0], flow[..., 1]
        parts = (along_x, along_y, x * along_x + y * along_y, x * along_y - y * along_x)
        total += [(weight * part).sum() for part in parts]
    return total


def test_the_labels_are_these_ten_in_this_order() -> None:
    named = {
        "still": STILL,
        "moving left": LEFT,
        "moving right": RIGHT,
        "moving up": UP,
        "moving down": DOWN,
        "approaching": APPROACHING,
        "receding": RECEDING,
        "turning clockwise": CLOCKWISE,
        "turning counterclockwise": COUNTERCLOCKWISE,
        "shaking": SHAKING,
    }
    assert tuple(named) == LABELS
    assert list(named.values()) == list(range(10))


@pytest.mark.parametrize(
    ("label", "component", "sign"),
    [
        (LEFT, 0, -1),
        (RIGHT, 0, 1),
        (UP, 1, -1),
        (DOWN, 1, 1),
        (APPROACHING, 2, 1),
        (RECEDING, 2, -1),
        (CLOCKWISE, 3, 1),
        (COUNTERCLOCKWISE, 3, -1),
    ],
)
def test_optical_flow_agrees_with_the_label(label: int, component: int, sign: int) -> None:
    clips, _ = motion_clips(20, 10, SIZE, seed=5, motions=1, only=label)
    flows = np.array([flow_of(clip[2:]) for clip in clips.numpy()])
    assert np.median(flows[:, component]) * sign > 0
    assert (flows[:, component] * sign > 0).mean() >= 0.7


def test_a_still_scene_changes_less_than_any_motion() -> None:
    def change(label: int) -> float:
        clips, _ = motion_clips(24, 10, SIZE, seed=6, motions=1, only=label)
        return float(np.median([np.abs(flow_of(clip)[:2]).sum() for clip in clips.numpy()]))

    assert change(STILL) < 0.25 * min(change(LEFT), change(UP))


def test_shaking_comes_back_and_a_translation_does_not() -> None:
    def net_over_gross(label: int) -> float:
        poses = [path_of(seed, 20, label, motions=1, radius=0.5, roam=1.5).poses[:, :2] for seed in range(30)]
        steps = [np.linalg.norm(np.diff(p, axis=0), axis=1).sum() for p in poses]
        ways = [np.linalg.norm(p[-1] - p[0]) for p in poses]
        return float(np.sum(ways) / np.sum(steps))

    assert net_over_gross(SHAKING) < 0.25
    assert net_over_gross(LEFT) > 0.9


def test_a_pose_moves_a_sprite_to_its_place() -> None:
    sprite = torch.zeros(1, 1, 32, 32)
    sprite[:, :, 12:20, 12:20] = 1
    half = float(np.log(0.5))
    poses = torch.tensor([[[0.0, 0.0, half, 0.0], [0.5, -0.25, half, 0.0]]])
    frames = warp(sprite, poses, SIZE)[0, :, 0].numpy()
    half_pixel = 1 / SIZE
    x, y = ((frames * axis).sum(axis=(1, 2)) / frames.sum(axis=(1, 2)) + half_pixel for axis in AXES[::-1])
    assert x == pytest.approx([0, 0.5], abs=0.01)
    assert y == pytest.approx([0, -0.25], abs=0.01)


def test_a_positive_angle_turns_clockwise_as_seen() -> None:
    sprite = torch.zeros(1, 1, 32, 32)
    sprite[:, :, 2:8, 14:18] = 1  # a mark at twelve o'clock
    frame = warp(sprite, torch.tensor([[[0.0, 0, 0, np.pi / 2]]]), SIZE)[0, 0, 0].numpy()
    y, x = (float((frame * axis).sum() / frame.sum()) for axis in AXES)
    assert x > 0.5  # now at three o'clock
    assert abs(y) < 0.1


def test_the_same_seed_gives_the_same_clips_and_another_seed_others() -> None:
    first, again, other = (motion_clips(3, 8, 32, seed) for seed in (7, 7, (7, 1)))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_clips_are_bytes_and_their_labels_are_known_numbers() -> None:
    clips, labels = motion_clips(60, 20, 32, seed=8)
    assert clips.shape == (60, 20, 3, 32, 32)
    assert clips.dtype == torch.uint8
    assert labels.shape == (60, 20)
    assert set(labels.unique().tolist()) == {IGNORE, *range(len(LABELS))}
    assert (labels[:, :2] == IGNORE).all()
    assert 0.5 < (labels != IGNORE).float().mean() < 0.9


def test_a_path_of_several_motions_names_none_right_after_a_change() -> None:
    changed = 0
    for seed in range(40):
        labels = path_of(seed, 24, seed % 10, motions=3, radius=0.4, roam=1.2).labels
        known = [int(label) for label in labels]
        changed += len(set(known) - {IGNORE}) > 1
        for before, after in pairwise(known):
            assert before == after or IGNORE in (before, after)
    assert changed > 15


def test_textures_and_sprites_are_sane_pictures() -> None:
    rng = np.random.default_rng(9)
    for painter in (draw.texture, draw.plain, draw.room):
        pictures = np.stack([painter(rng, 48) for _ in range(20)])
        assert pictures.dtype == np.float32
        assert pictures.shape == (20, 48, 48, 3)
        assert -0.8 < pictures.min() < pictures.max() < 1.8
    for shapes in (1, 3):
        sprites = np.stack([draw.sprite(rng, 48, shapes) for _ in range(40)])
        coverage = sprites[..., 3]
        assert coverage.min() >= 0
        assert coverage.max() < 1.001
        assert (coverage.mean(axis=(1, 2)) > 0.03).all()
        assert not coverage[:, [0, -1]].any()


def test_structure_tells_stripes_and_walls_from_what_shows_every_motion() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    stripes, spots = np.sin((x + y) / 3), np.sin(x / 2) * np.sin(y / 2)
    in_colour = [np.repeat(0.5 + 0.3 * pattern[..., None], 3, 2) for pattern in (stripes, spots)]
    assert draw.structure(in_colour[0]) < 0.0025 < draw.structure(in_colour[1])
    assert draw.structure(draw.plain(rng, SIZE)) < 0.0025


def test_a_size_that_compression_cannot_cut_into_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiple of 8.*size=30"):
        motion_clips(1, 8, 30, seed=0)


def test_the_preview_is_a_sheet_with_a_row_of_frames_for_each_clip(tmp_path: Path) -> None:
    preview(tmp_path / "sheet.png", columns=8, clips=1)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (len(LABELS) * 112, 190 + 8 * 112, 3)


def test_a_preview_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no_such_folder"):
        preview(tmp_path / "no_such_folder" / "sheet.png", columns=8, clips=1)
