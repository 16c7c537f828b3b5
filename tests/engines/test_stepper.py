from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engines.networks import build_network
from engines.networks.stepper import StreamStepper

from .conftest import moving_frames
from .contract import settle

YES, NO = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)


def make_stepper(name: str = "tcm") -> StreamStepper:
    network = build_network(name, "resnet18", 8, 5, causal=True, width=0.25)
    settle(network)
    return StreamStepper(network, 48, 64).eval()


def frames(count: int) -> list[Tensor]:
    return [torch.from_numpy(frame) for frame in moving_frames(count, 2)]


def clip_of(steps: list[Tensor]) -> Tensor:
    """Camera bytes [B, H, W, BGR] of each step -> normalised clip [B, T, RGB, H, W], by the definition."""
    rgb = torch.stack(steps, 1)[..., [2, 1, 0]].float() / 255
    return ((rgb - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("name", ["tsn", "tsm", "tcm"])
@torch.no_grad()
def test_steps_from_camera_bytes_equal_the_whole_clip(name: str) -> None:
    stepper, steps = make_stepper(name), frames(20)
    whole = stepper.network.frame_logits(clip_of(steps))
    state = stepper.initial_state(2)
    for t, frame in enumerate(steps):
        logits, ready, *state = stepper(frame, YES, NO, *state)
        assert (logits - whole[:, t]).abs().max() <= 1e-4 * whole.abs().max()
        assert ready.tolist() == [t >= 7, t >= 7]


@torch.no_grad()
def test_a_fresh_row_starts_anew_whatever_its_state_held() -> None:
    stepper, steps = make_stepper(), frames(12)
    garbage = [torch.full_like(value, torch.nan) for value in stepper.initial_state(2)]
    state, reference = garbage, list(stepper.initial_state(2))
    for t, frame in enumerate(steps):
        logits, ready, *state = stepper(frame, YES, YES if t == 0 else NO, *state)
        expected, expected_ready, *reference = stepper(frame, YES, NO, *reference)
        assert torch.equal(logits, expected)
        assert torch.equal(ready, expected_ready)


@torch.no_grad()
def test_rows_may_be_out_of_step_and_an_idle_row_keeps_its_state_bit_for_bit() -> None:
    stepper, steps = make_stepper(), frames(24)
    alone = stepper.network.frame_logits(clip_of(steps[::2]))[1]
    state = stepper.initial_state(2)
    for t, frame in enumerate(steps):
        active = torch.tensor([True, t % 2 == 0])
        if t % 2:
            frame[1] = 255  # what an idle row is given must not matter
        before = [value[1].clone() for value in state]
        logits, ready, *state = stepper(frame, active, NO, *state)
        if t % 2:
            assert all(torch.equal(old, new[1]) for old, new in zip(before, state, strict=True))
        else:
            assert (logits[1] - alone[t // 2]).abs().max() <= 1e-4 * alone.abs().max()
    assert ready.tolist() == [True, True]


@torch.no_grad()
def test_an_idle_row_full_of_nan_harms_nobody() -> None:
    stepper, steps = make_stepper(), frames(3)
    state = [value.clone() for value in stepper.initial_state(2)]
    clean = list(stepper.initial_state(2))
    for value in state:
        value[1] = torch.nan
    for frame in steps:
        logits, _, *state = stepper(frame, torch.tensor([True, False]), NO, *state)
        expected, _, *clean = stepper(frame, torch.tensor([True, False]), NO, *clean)
        assert torch.equal(logits[0], expected[0])
        assert all(value[1].isnan().all() for value in state)


def test_the_clip_form_is_no_stream() -> None:
    with pytest.raises(ValueError, match="causal form"):
        StreamStepper(build_network("tsm", "resnet18", 8, 5, causal=False, width=0.25), 48, 64)
