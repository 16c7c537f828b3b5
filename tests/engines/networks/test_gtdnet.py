from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engines.networks.gtdnet import AGGREGATORS, GatedShift, GlobalTemporalDifference
from engines.networks.temporal import TemporalShift

from .contract import check_streaming_law, settle

CAUSAL = ["avg", "mta", "lstm"]


def gate(aggregator: str, *, causal: bool) -> GlobalTemporalDifference:
    made = GlobalTemporalDifference(32, aggregator, frames=8, causal=causal)
    settle(made)
    return made


def squeezed(gtd: GlobalTemporalDifference, means: Tensor) -> Tensor:
    z: Tensor = gtd.reduce(means)
    return z / (z.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def gates(gtd: GlobalTemporalDifference, means: Tensor) -> Tensor:
    """Means [B, T, C] -> gate [B, T, C], from the initial state."""
    found: Tensor = gtd(means[..., None, None], {})[0]
    return found.flatten(2)


def by_the_paper(gtd: GlobalTemporalDifference, means: Tensor, overall: Tensor) -> Tensor:
    """The gate of one frame's means [C] against the clip's vector [c]."""
    z = squeezed(gtd, means)
    selected = torch.sigmoid(gtd.select(overall - z)) * z
    attention = torch.outer(gtd.query(selected), gtd.key(selected)).softmax(1)
    return torch.sigmoid(gtd.expand(attention @ gtd.value(selected) + z))


@torch.no_grad()
def test_the_gate_is_the_papers() -> None:
    gtd, means = gate("avg", causal=False), 3 * torch.randn(2, 8, 32)
    found = gates(gtd, means)
    for row in range(2):
        overall = squeezed(gtd, means[row]).mean(0)
        expected = torch.stack([by_the_paper(gtd, frame, overall) for frame in means[row]])
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_gate_keeps_its_precision_on_means_of_any_size() -> None:
    gtd, means = gate("avg", causal=False), 3000 * torch.randn(2, 8, 32)
    single = gates(gtd, means)
    torch.testing.assert_close(single, gates(gtd.double(), means.double()).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggregator", CAUSAL)
def test_every_causal_gate_obeys_the_streaming_law(aggregator: str) -> None:
    check_streaming_law(gate(aggregator, causal=True), torch.randn(2, 24, 32, 1, 1))


@torch.no_grad()
def test_the_average_of_a_young_stream_is_over_the_frames_that_are_there() -> None:
    z = torch.randn(1, 12, 4)
    average, _ = AGGREGATORS["avg"](4, frames=8, causal=True)(z, {})
    for t in (0, 3, 7, 11):
        torch.testing.assert_close(average[:, t], z[:, max(0, t - 7) : t + 1].mean(1))


@pytest.mark.parametrize("aggregator", CAUSAL)
@torch.no_grad()
def test_a_stream_of_the_clip_s_length_is_summed_up_as_the_clip(aggregator: str) -> None:
    clip, causal = (AGGREGATORS[aggregator](4, frames=8, causal=form) for form in (False, True))
    causal.load_state_dict(clip.state_dict())
    z = torch.randn(2, 8, 4)
    torch.testing.assert_close(causal(z, {})[0][:, -1], clip(z, {})[0][:, 0])


@torch.no_grad()
def test_both_directions_of_the_lstm_are_averaged() -> None:
    made, z = AGGREGATORS["bilstm"](4, frames=8, causal=False), torch.randn(2, 8, 4)
    lstm = made.lstm
    assert isinstance(lstm, nn.LSTM)
    y, _ = lstm(z)
    torch.testing.assert_close(made(z, {})[0][:, 0], (y[:, -1, :4] + y[:, 0, 4:]) / 2)


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_the_convolution_reads_the_gated_shifted_map(causal: bool) -> None:
    x, conv, identity = torch.randn(1, 8, 32, 5, 5), nn.Conv2d(32, 8, 1), nn.Conv2d(32, 32, 1, bias=False)
    identity.weight.copy_(torch.eye(32)[:, :, None, None])
    gated = GatedShift(32, "avg", frames=8, causal=causal)
    shifted, _ = TemporalShift(32, causal=causal)(x, {}, identity)
    scale = 1 + gates(gated.gtd, shifted.mean((3, 4)))
    expected = conv((shifted * scale[..., None, None]).flatten(0, 1)).unflatten(0, (1, 8))
    torch.testing.assert_close(gated(x, {}, conv)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_gated_shift_obeys_the_streaming_law() -> None:
    gated, conv = GatedShift(32, "mta", frames=8, causal=True), nn.Conv2d(32, 8, 1)
    check_streaming_law(lambda x, state: gated(x, state, conv), torch.randn(2, 24, 32, 5, 7))
