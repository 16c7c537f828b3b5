from __future__ import annotations

import pytest
import torch

from engines.networks import build_network
from engines.networks.inverted import InvertedResidual, Row, SameConv2d, scaled
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
    block = InvertedResidual(16, 16, Row(6, 16, 1, 1, 3), TemporalShift(16, causal=True)).eval()
    x = torch.randn(1, 4, 16, 5, 5)
    shifted = x.clone()
    shifted[:, 0, :2], shifted[:, 1:, :2] = 0, x[:, :-1, :2]
    torch.testing.assert_close(block(x, {})[0][0], x[0] + block.conv(shifted[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "planes"), [(1, 16), (2, 24)])
def test_a_block_obeys_the_streaming_law(stride: int, planes: int) -> None:
    block = InvertedResidual(16, planes, Row(6, planes, 1, stride, 5), TemporalShift(16, causal=True))
    check_streaming_law(settle(block), torch.randn(2, 24, 16, 7, 9))


def test_the_first_blocks_of_a_light_network_may_stay_without_a_shift() -> None:
    with torch.device("meta"):
        network = build_network("tcm", "efficientnet_lite0", 8, 27, causal=True, shift_from=12)
    shifting = [name for name, module in network.named_modules() if isinstance(module, TemporalShift)]
    assert shifting == [f"features.{index}.shift" for index in (13, 14, 15)]


@pytest.mark.parametrize(
    ("backbone", "before", "channels"), [("mobilenet_v2", "features.6", 32), ("efficientnet_lite0", "features.5", 40)]
)
def test_the_correlation_reads_the_maps_of_an_eighth_of_the_picture(backbone: str, before: str, channels: int) -> None:
    with torch.device("meta"):
        network = build_network("tcm", backbone, 8, 27, causal=True).eval()
        names = [name for name, _ in network.stages()]
        state = network.initial_state(1, 224, 224)
    assert names[names.index("tcm") - 1] == before
    assert network.state_dict()["tcm.mtdm.chnl_reduction.0.weight"].shape[1] == channels
    assert state["tcm.mtdm.ring"].shape[-2:] == (28, 28)


@pytest.mark.parametrize(("size", "kernel", "zeros"), [(8, 3, (0, 1)), (7, 3, (1, 1)), (8, 5, (1, 2)), (7, 5, (2, 2))])
def test_a_convolution_pads_as_tensorflow_does(size: int, kernel: int, zeros: tuple[int, int]) -> None:
    conv = SameConv2d(1, 1, kernel, 2, bias=False)
    x = torch.randn(1, 1, size, size)
    padded = torch.nn.functional.pad(x, (*zeros, *zeros))
    torch.testing.assert_close(conv(x), torch.nn.functional.conv2d(padded, conv.weight, stride=2))
    assert conv(x).shape[-1] == -(-size // 2)


@torch.no_grad()
def test_efficientnet_takes_pictures_as_it_was_trained_on() -> None:
    """(RGB - 127) / 128; the network is given what all are given, ImageNet-normalised pictures."""
    network = build_network("tsn", "efficientnet_lite0", 8, 5, causal=True, width=0.25).eval()
    rgb = torch.randint(0, 256, (2, 3, 32, 48)).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = network.get_submodule("features.0")((rgb - 127) / 128)
    torch.testing.assert_close(network.stem((rgb / 255 - mean) / std), expected, rtol=1e-4, atol=1e-4)


def test_a_narrow_network_keeps_its_last_width() -> None:
    with torch.device("meta"):
        network = build_network("tsn", "mobilenet_v2", 8, 27, causal=True, width=0.5)
    assert network.fc.in_features == 1280
