from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.networks import build_network
from engines.networks.tanet import TAM

from .contract import check_streaming_law, settle


def module(*, causal: bool, frames: int = 8) -> TAM:
    made = TAM(12, frames=frames, causal=causal)
    settle(made)
    return made


def by_the_paper(tam: TAM, x: Tensor) -> Tensor:
    """Equations 2 to 6 with the clip as the paper has it, [B, C, T, H, W], and the kernel as a grouped convolution."""
    batch, channels, frames, height, width = x.shape
    theta = x.mean((3, 4))
    kernel = tam.G(theta.reshape(-1, frames)).view(batch * channels, 1, 3, 1)
    weighted = x * tam.L(theta).view(batch, channels, frames, 1, 1)
    rows = weighted.reshape(1, batch * channels, frames, height * width)
    return F.conv2d(rows, kernel, padding=(1, 0), groups=batch * channels).view_as(x)


@torch.no_grad()
def test_the_clip_form_is_the_papers() -> None:
    tam, x = module(causal=False), torch.randn(2, 8, 12, 5, 7)
    expected = by_the_paper(tam, x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(tam(x, {})[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 8, 16])
def test_the_module_obeys_the_streaming_law(frames: int) -> None:
    check_streaming_law(module(causal=True, frames=frames), torch.randn(2, 24, 12, 5, 7))


@torch.no_grad()
def test_the_causal_form_is_the_papers_without_the_taps_that_look_ahead() -> None:
    """At the last frame of a stream of T: the same theta, so the same kernel; L and the mixing see zeros ahead."""
    clip, causal = module(causal=False), module(causal=True)
    causal.load_state_dict(clip.state_dict())
    x = torch.randn(1, 8, 12, 5, 7)
    found = causal(x, {})[0][:, -1]
    clip.get_parameter("L.0.weight")[:, :, 2] = 0
    torch.testing.assert_close(found, clip(x, {})[0][:, -1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_kernel_follows_the_last_frames_of_the_stream_oldest_first() -> None:
    tam, x = module(causal=True), torch.randn(1, 11, 12, 1, 1)
    _, state = tam(x, {})
    torch.testing.assert_close(state["theta"], x[:, -7:, :, 0, 0])
    torch.testing.assert_close(state["last"][..., 0, 0], x[:, -1, :, 0, 0] * tam.importance(x[..., 0, 0], {})[:, -1])


def test_a_clip_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="TANet made for 8 frames got a clip of 10"):
        module(causal=False)(torch.randn(1, 10, 12, 3, 3), {})


def test_the_state_is_kept_where_the_channels_are_fewest() -> None:
    state = build_network("tanet", "resnet26", 8, 5, causal=True, width=0.25).initial_state(1, 64, 64)
    assert state["layer2.0.tam.theta"].shape == (1, 7, 32)
    assert state["layer2.0.tam.last"].shape == (1, 32, 16, 16)
