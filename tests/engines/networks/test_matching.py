from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from engines.networks import build_network
from engines.networks.matching import DIRECTIONS, MotionHistograms, displacement, histograms

from .contract import check_streaming_law


def textured(height: int = 48, width: int = 48) -> Tensor:
    """A grey picture [1, 1, H, W] of coarse and of fine spots."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(1, 1, height // 3, width // 3, generator=generator)
    return torch.nn.functional.interpolate(spots, (height, width), mode="bilinear")


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, 0), (-1, 2), (0, -3)])
def test_a_picture_that_moved_is_found_where_it_went(dx: int, dy: int) -> None:
    x, y = displacement(textured(), textured().roll((dy, dx), (2, 3)))[0, :, 6:18, 6:18]
    assert x.median() == pytest.approx(4 * dx, abs=0.4)
    assert y.median() == pytest.approx(4 * dy, abs=0.4)


def test_a_picture_without_a_pattern_stands_still() -> None:
    flat = torch.full((1, 1, 48, 48), 0.5)
    assert displacement(flat, flat + 0.1).abs().max() < 1e-3


def test_a_histogram_tells_the_direction_the_quarter_and_what_is_still() -> None:
    moved = torch.zeros(1, 2, 24, 24)
    moved[0, 0, :12, :12] = 3.0  # the upper left quarter goes to the right
    counts = histograms(moved)[0].view(4, DIRECTIONS + 1, 2, 2).square()
    to_the_right, still = counts[0, 0], counts[0, DIRECTIONS]
    assert to_the_right[0, 0] == pytest.approx(3.0, abs=0.01)
    assert to_the_right.flatten()[1:].max() < 0.01
    assert still[0, 0] < 0.01
    assert still.flatten()[1:].min() > 0.95
    assert counts[0, 1, 0, 0] == pytest.approx(3 * math.cos(math.pi / 4), abs=0.01)
    assert counts[1, 0, 0, 0] == pytest.approx(3 * 0.75, abs=0.01)  # of the mean a quarter is taken away


@pytest.mark.parametrize("side", [16, 17, 33])
def test_pictures_of_any_size_have_as_many_histograms(side: int) -> None:
    y, _ = MotionHistograms(causal=True)(torch.rand(2, 3, 1, side, side + 2), {})
    assert y.shape == (2, 3, MotionHistograms.size)
    assert y.isfinite().all()


def test_motion_obeys_the_streaming_law_and_its_first_picture_did_not_move() -> None:
    motion = MotionHistograms(causal=True)
    check_streaming_law(motion, torch.rand(2, 24, 1, 12, 12))
    picture = textured().unsqueeze(1)
    first, second = motion(picture.repeat(1, 2, 1, 1, 1), {})[0][0]
    torch.testing.assert_close(first, second)


def test_a_network_that_reads_motion_obeys_the_streaming_law() -> None:
    network = build_network("tsn", "efficientnet_lite0", 5, 3, causal=True, width=0.25, pooling="motion").eval()
    clip = torch.rand(1, 8, 3, 64, 64)
    whole = network.frame_logits(clip)
    state: dict[str, Tensor] = {}
    parts = []
    for frame in clip.split(1, 1):
        logits, state = network(frame, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)
    still = clip[:, :1].expand_as(clip)
    assert not torch.allclose(network.vectors(still, {})[0][:, -1], network.vectors(clip, {})[0][:, -1])
