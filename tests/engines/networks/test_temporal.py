from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.networks.temporal import TemporalShift, advance, delay, named, part

from .contract import check_streaming_law


def test_the_causal_shift_obeys_the_streaming_law() -> None:
    shift, conv = TemporalShift(16, causal=True), nn.Conv2d(16, 8, 3, 2, 1)
    check_streaming_law(lambda x, state: shift(x, state, conv), torch.randn(2, 24, 16, 9, 7))


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_the_shift_without_a_copy_equals_the_shift_by_its_definition(causal: bool) -> None:
    x, conv = torch.randn(2, 5, 16, 6, 6), nn.Conv2d(16, 8, 3, padding=1)
    shifted = x.clone()
    if causal:
        shifted[:, 0, :2], shifted[:, 1:, :2] = 0, x[:, :-1, :2]
    else:
        shifted[:, -1, :2], shifted[:, :-1, :2] = 0, x[:, 1:, :2]
        shifted[:, 0, 2:4], shifted[:, 1:, 2:4] = 0, x[:, :-1, 2:4]
    y, state = TemporalShift(16, causal=causal)(x, {}, conv)
    torch.testing.assert_close(y, conv(shifted.flatten(0, 1)).unflatten(0, (2, 5)), rtol=1e-4, atol=1e-5)
    assert state.keys() == ({"last"} if causal else set())


def test_delay_and_advance_are_one_frame_apart() -> None:
    x = torch.arange(1.0, 5.0).view(1, 4, 1)
    assert delay(x, None).flatten().tolist() == [0, 1, 2, 3]
    assert delay(x, torch.tensor([[9.0]])).flatten().tolist() == [9, 1, 2, 3]
    assert delay(x[:, :1], torch.tensor([[9.0]])).flatten().tolist() == [9]
    assert advance(x).flatten().tolist() == [2, 3, 4, 0]


def test_part_and_named_are_opposites_and_respect_the_dot() -> None:
    state = {"layer1.shift.last": torch.zeros(1), "layer10.shift.last": torch.ones(1)}
    inner = part(state, "layer1")
    assert list(inner) == ["shift.last"]
    assert named(inner, "layer1").keys() == {"layer1.shift.last"}
