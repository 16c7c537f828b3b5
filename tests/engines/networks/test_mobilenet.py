from __future__ import annotations

import pytest
import torch

from engines.networks import build_network
from engines.networks.mobilenet import InvertedResidual, scaled
from engines.networks.temporal import NoShift, TemporalShift

from .contract import check_streaming_law, settle


def test_the_blocks_with_a_shortcut_shift_and_no_other() -> None:
    with torch.device("meta"):
        network = build_network("tsm", "mobilenet_v2", 8, 27, causal=True)
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    assert [i for i, block in enumerate(blocks) if block.shortcut] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert all(isinstance(block.shift, TemporalShift if block.shortcut else NoShift) for block in blocks)


def test_channels_round_as_in_the_published_networks() -> None:
    assert [scaled(channels, 1.0) for channels in (16, 24, 1280)] == [16, 24, 1280]
    assert [scaled(channels, 0.75) for channels in (16, 24, 32, 96)] == [16, 24, 24, 72]  # 12 -> 16, 18 -> 24
    assert scaled(16, 0.25) == 8


@torch.no_grad()
def test_the_shortcut_sees_the_unshifted_input() -> None:
    block = InvertedResidual(16, 16, 1, 6, TemporalShift(16, causal=True)).eval()
    x = torch.randn(1, 4, 16, 5, 5)
    shifted = x.clone()
    shifted[:, 0, :2], shifted[:, 1:, :2] = 0, x[:, :-1, :2]
    torch.testing.assert_close(block(x, {})[0][0], x[0] + block.conv(shifted[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "planes"), [(1, 16), (2, 24)])
def test_a_block_obeys_the_streaming_law(stride: int, planes: int) -> None:
    block = InvertedResidual(16, planes, stride, 6, TemporalShift(16, causal=True))
    check_streaming_law(settle(block), torch.randn(2, 24, 16, 7, 9))


def test_a_narrow_network_keeps_its_last_width() -> None:
    with torch.device("meta"):
        network = build_network("tsn", "mobilenet_v2", 8, 27, causal=True, width=0.5)
    assert network.fc.in_features == 1280
