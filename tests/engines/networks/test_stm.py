from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.networks import build_network
from engines.networks.stm import CMM, CSTM, STMBlock

from .contract import check_streaming_law, settle


def block(*, causal: bool, stride: int = 1) -> STMBlock:
    made = STMBlock(64, 16, stride, causal=causal)
    settle(made)
    return made


@torch.no_grad()
def test_the_temporal_convolution_is_one_of_each_channel() -> None:
    cstm, x = CSTM(16, causal=False), torch.randn(2, 6, 16, 3, 5)
    nn.init.normal_(cstm.conv.weight)
    along_time = x.permute(0, 3, 4, 2, 1).flatten(0, 2)  # [B * H * W, C, T]
    expected = cstm.conv(along_time).unflatten(0, (2, 3, 5)).permute(0, 4, 3, 1, 2)
    torch.testing.assert_close(cstm(x, {})[0], expected)


@torch.no_grad()
def test_the_temporal_convolution_starts_as_a_shift() -> None:
    x = torch.arange(1.0, 5.0).view(1, 4, 1, 1, 1).expand(1, 4, 16, 1, 1)
    clip, _ = CSTM(16, causal=False)(x, {})
    assert [clip[0, :, c].flatten().tolist() for c in (0, 8, 15)] == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0]]
    causal, _ = CSTM(16, causal=True)(x, {})
    assert [causal[0, :, c].flatten().tolist() for c in (0, 8, 15)] == [[0, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]


@torch.no_grad()
def test_motion_is_the_difference_to_the_next_frame_or_from_the_frame_before() -> None:
    clip, causal = CMM(32, causal=False), CMM(32, causal=True)
    settle(clip)
    causal.eval().load_state_dict(clip.state_dict())
    x = torch.randn(1, 5, 32, 6, 6)
    z = clip.reduce(x[0])
    ahead = clip.expand(clip.transform(z[1:]) - z[:-1])
    nothing = torch.zeros_like(ahead[:1])
    torch.testing.assert_close(clip(x, {})[0][0], torch.cat([ahead, nothing]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(causal(x, {})[0][0], torch.cat([nothing, ahead]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_block_is_the_papers() -> None:
    made, x = block(causal=False, stride=2), torch.randn(1, 4, 64, 8, 8)
    o = made.relu(made.bn1(made.conv1(x[0])))
    shifted, motion = made.cstm(o[None], {})[0][0], made.cmm(o[None], {})[0][0]
    a = made.relu(made.bn2(made.conv2(shifted))) + nn.functional.max_pool2d(motion, 2)
    assert made.downsample is not None
    expected = made.relu(made.bn3(made.conv3(a)) + made.downsample(x[0]))
    torch.testing.assert_close(made(x, {})[0][0], expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_block_obeys_the_streaming_law_on_odd_maps_too(stride: int) -> None:
    check_streaming_law(block(causal=True, stride=stride), torch.randn(2, 24, 64, 7, 9))


def test_the_state_is_kept_where_the_channels_are_fewest() -> None:
    state = build_network("stm", "resnet26", 8, 5, causal=True, width=0.5).initial_state(1, 64, 64)
    shapes = {name: tuple(value.shape) for name, value in state.items() if name.startswith("layer2.0")}
    assert shapes == {
        "layer2.0.cstm.last": (1, 64, 16, 16),
        "layer2.0.cmm.last": (1, 4, 16, 16),
        "layer2.0.cmm.started": (1,),
    }
