from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engines.networks import build_network
from engines.networks.tcm import MTDM, TAM, TemporalAttention, displacement

from .contract import check_streaming_law, settle


def displacement_by_definition(a: Tensor, b: Tensor) -> Tensor:
    """Patches of 225 shifted products, the gate in patch indices, the softmax: [N, C, H, W] twice -> [N, 3, H, W]."""
    h, w = a.shape[-2:]
    padded = F.pad(b, (7, 7, 7, 7))
    rows = [
        torch.stack([(a * padded[:, :, dy : dy + h, dx : dx + w]).sum(1) for dx in range(15)], -1) for dy in range(15)
    ]
    c = torch.stack(rows, -2).relu()  # [N, H, W, 15, 15]
    m, strongest = c.flatten(3).max(-1)
    axis = torch.arange(15, dtype=a.dtype)
    row, column = strongest[..., None] // 15, strongest[..., None] % 15
    squared = ((axis - row) ** 2)[..., None] + ((axis - column) ** 2)[..., None, :]
    p = (100 * c * torch.exp(-squared / 50)).flatten(3).softmax(-1).unflatten(-1, (15, 15))
    steps = (axis - 7) / 7
    return torch.stack([(p * steps).sum((-2, -1)), (p * steps[:, None]).sum((-2, -1)), m], 1)


@pytest.mark.parametrize("size", [(28, 28), (14, 14), (5, 9), (20, 7)])
@pytest.mark.parametrize("likeness", [0.0, 4.0])
def test_the_displacement_over_all_pairs_equals_its_definition(size: tuple[int, int], likeness: float) -> None:
    a = F.normalize(torch.randn(2, 16, *size).relu(), dim=1)
    b = F.normalize((torch.randn(2, 16, *size) + likeness * a.roll((1, 2), (2, 3))).relu(), dim=1)
    torch.testing.assert_close(displacement(a, b), displacement_by_definition(a, b), rtol=1e-5, atol=1e-5)


def test_maps_without_content_show_no_displacement() -> None:
    nothing = torch.zeros(1, 8, 9, 20)
    torch.testing.assert_close(displacement(nothing, nothing), torch.zeros(1, 3, 9, 20), atol=1e-5, rtol=0)


def test_the_gradient_of_the_displacement_equals_that_of_its_definition() -> None:
    a, b = (F.normalize(torch.rand(1, 8, 9, 16, dtype=torch.double), dim=1).requires_grad_() for _ in range(2))
    weights = torch.randn(1, 3, 9, 16, dtype=torch.double)
    gradients = torch.autograd.grad((displacement(a, b) * weights).sum(), (a, b))
    torch.testing.assert_close(
        gradients, torch.autograd.grad((displacement_by_definition(a, b) * weights).sum(), (a, b))
    )


def test_a_moved_map_is_found_where_it_went() -> None:
    texture = F.normalize(torch.randn(1, 64, 40, 40).relu(), dim=1)
    before, after = texture[:, :, 10:30, 10:30], texture[:, :, 13:33, 8:28]  # content moved 3 up and 2 right
    u, v, m = displacement(before, after)[0, :, 8:12, 8:12]
    torch.testing.assert_close(u, torch.full_like(u, 2 / 7), atol=1e-3, rtol=0)
    torch.testing.assert_close(v, torch.full_like(v, -3 / 7), atol=1e-3, rtol=0)
    torch.testing.assert_close(m, torch.ones_like(m), atol=1e-3, rtol=0)


def test_the_motion_module_obeys_the_streaming_law() -> None:
    module = settle(MTDM(12, frames=8, causal=True))
    check_streaming_law(module, torch.randn(2, 24, 12, 9, 9))


def test_the_attention_module_obeys_the_streaming_law() -> None:
    for frames in (8, 16):
        check_streaming_law(settle(TAM(12, frames=frames, causal=True)), torch.randn(2, 24, 6, 5, 5))


@torch.no_grad()
def test_clip_and_causal_motion_agree_on_the_pairs_they_share() -> None:
    """Clip form stores the pair (t, t+1) at t, the causal form at t+1; the slow reference is frame 0 in both."""
    clip_form, causal_form = MTDM(12, frames=8, causal=False).eval(), MTDM(12, frames=8, causal=True).eval()
    causal_form.load_state_dict(clip_form.state_dict())
    x = torch.randn(1, 8, 12, 9, 9)
    clip, causal = clip_form(x, {})[0], causal_form(x, {})[0]
    torch.testing.assert_close(clip[:, :-1], causal[:, 1:])
    torch.testing.assert_close(clip[:, -1], clip[:, -2])


@torch.no_grad()
def test_at_the_first_frame_both_pairs_are_that_frame_with_itself() -> None:
    motion, _ = MTDM(64, frames=8, causal=True).eval()(torch.rand(1, 1, 64, 9, 9), {})
    torch.testing.assert_close(motion[:, :, :3], motion[:, :, 3:])
    assert motion[:, :, 2].min() > 0.99  # a frame matches itself


def test_the_attention_kernel_follows_the_length_of_the_clip() -> None:
    kernels = {frames: TemporalAttention(frames=frames, causal=False).conv.kernel_size for frames in (4, 8, 16, 32)}
    assert kernels == {4: (3,), 8: (3,), 16: (5,), 32: (5,)}


def test_a_published_tcm_has_its_published_size() -> None:
    network = build_network("tcm", "resnet50", frames=8, classes=174, causal=False)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(23.94e6, rel=2e-3)


@torch.no_grad()
def test_motion_stays_in_single_precision_under_autocast() -> None:
    module, x = MTDM(16, frames=8, causal=True).eval(), torch.rand(1, 4, 16, 9, 9)
    exact = module(x, {})[0]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(x, {})[0]
    assert mixed.dtype == exact.dtype
    assert (mixed - exact).abs().mean() < 0.02  # the reduction before it is half, the correlation is not


def test_a_motion_is_found_in_half_precision_too() -> None:
    """Places are told by row and column: the number of a position, up to 400 here, is more than bfloat16 can tell."""
    texture = F.normalize(torch.randn(1, 64, 40, 40).relu(), dim=1).bfloat16()
    u, v, m = displacement(texture[:, :, 10:30, 10:30], texture[:, :, 13:33, 8:28])[0, :, 8:12, 8:12].float()
    torch.testing.assert_close(u, torch.full_like(u, 2 / 7), atol=0.05, rtol=0)
    torch.testing.assert_close(v, torch.full_like(v, -3 / 7), atol=0.05, rtol=0)
    torch.testing.assert_close(m, torch.ones_like(m), atol=0.05, rtol=0)


@pytest.mark.parametrize(("backbone", "causal"), [("resnet18", True), ("resnet18", False), ("mobilenet_v2", True)])
@torch.no_grad()
def test_the_maps_that_are_compared_are_those_of_single_precision_though_the_network_is_half(
    backbone: str, causal: bool
) -> None:
    network = build_network("tcm", backbone, 4, 3, causal=causal, width=0.25)
    settle(network)
    seen: list[Tensor] = []
    network.get_submodule("tcm.mtdm").register_forward_hook(lambda _, __, found: seen.append(found[0]))
    clip = torch.rand(1, 4, 3, 64, 64)
    exact = network(clip, {})[0]
    halved = network.half()(clip, {})[0]
    assert torch.equal(*seen)
    assert (exact.dtype, halved.dtype) == (torch.float32, torch.float16)
    halves = [value.numel() for value in network.parameters() if value.dtype == torch.float16]
    assert sum(halves) > 0.85 * sum(value.numel() for value in network.parameters())


@torch.no_grad()
def test_what_motions_differ_by_survives_half_precision_though_a_batch_norm_enlarges_it() -> None:
    torch.manual_seed(0)
    module, motion = TAM(8, frames=8, causal=True), 0.9 + 0.01 * torch.rand(8, 1, 6, 9, 9)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    module(motion, {})  # the norms learn how little it is
    module.eval()
    conv, norm = module.conv1[0], module.conv1[1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    module.conv1[0], module.conv1[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    exact, halved = module(motion, {})[0], deepcopy(module).half()(motion, {})[0]
    assert halved.dtype == torch.float16
    assert (halved - exact).abs().max() < 0.006 * exact.abs().max()
