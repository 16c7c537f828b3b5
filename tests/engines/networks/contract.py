"""The streaming law and what else every network promises, as checkers that each op and each network pass in three
lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

import torch
from torch import Tensor, nn

from engines.networks import Network
from engines.networks.stepper import StreamStepper

Step = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Mapping[str, Tensor]]]


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Eval mode, with batch norms that are not the identity and temporal kernels that are not a shift: the fresh ones
    hide mistakes.
    """
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        if isinstance(layer, nn.Conv1d) and layer.groups > 1:
            nn.init.normal_(layer.weight, 0, 0.6)
    return module.eval()


def random_splits(length: int, seed: int) -> list[int]:
    """Chunk lengths that add up to `length`."""
    generator = torch.Generator().manual_seed(seed)
    cuts: list[int] = []
    while sum(cuts) < length:
        cuts.append(min(int(torch.randint(1, 6, (1,), generator=generator)), length - sum(cuts)))
    return cuts


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Relative to the largest of the expected values."""
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def check_streaming_law(step: Step, x: Tensor) -> None:
    """whole(x) == random chunks == single steps for x [B, T, ...], relative to the output's scale."""
    whole, last = step(x, {})
    assert whole.abs().max() > 0
    length = x.shape[1]
    for splits in (random_splits(length, 0), random_splits(length, 1), [1] * length):
        state: Mapping[str, Tensor] = {}
        chunks = []
        for chunk in x.split(splits, 1):
            y, state = step(chunk, state)
            chunks.append(y)
        assert_near(torch.cat(chunks, 1), whole)
        assert state.keys() == last.keys()
        for name, value in last.items():
            assert_near(state[name], value)


@torch.no_grad()
def check_rows(network: Network, height: int, width: int) -> None:
    """3T steps of four streams out of step: each answers as it would alone, whatever the others do.

    Row 0 runs through, row 1 starts anew at times, row 2 is idle at times (and is handed garbage then), row 3 never
    runs and holds NaN. Idle rows keep their state bit for bit; a state that was put aside can be gone on from.
    """
    stepper, length = StreamStepper(network, height, width).eval(), 3 * network.frames
    generator = torch.Generator().manual_seed(0)
    texture = torch.randint(0, 256, (length, 4, height, width, 3), generator=generator, dtype=torch.uint8)
    rate = torch.tensor([1.0, 1.0, 0.6, 0.0])
    active = torch.rand(length, 4, generator=generator) < rate
    fresh = torch.rand(length, 4, generator=generator) < torch.tensor([0.0, 0.2, 0.1, 0.0])
    state = [value.clone() for value in stepper.initial_state(4)]
    for value in state:
        value[3] = torch.nan
    taken: list[list[Tensor]] = [[], [], [], []]
    put_aside: dict[int, list[Tensor]] = {}
    answers = []
    for t in range(length):
        before = put_aside[t] = state
        logits, ready, *state = stepper(texture[t], active[t], fresh[t], *before)
        answers.append(logits)
        for old, new in zip(before, state, strict=True):
            assert torch.equal(old[~active[t]].nan_to_num(7), new[~active[t]].nan_to_num(7))
        for row in range(3):
            if active[t, row]:
                taken[row] = [*([] if fresh[t, row] else taken[row]), texture[t, row]]
                assert ready[row] == (len(taken[row]) >= network.frames)
    for row in range(3):
        rgb = torch.stack(taken[row]).permute(0, 3, 1, 2).flip(1).unsqueeze(0)
        alone = network.frame_logits((rgb - stepper.mean) / stepper.std)[0, -1]
        newest = int(active[:, row].nonzero().max())
        assert_near(answers[newest][row], alone)
    halfway = length // 2
    again, *_ = stepper(texture[halfway], active[halfway], fresh[halfway], *put_aside[halfway])
    assert_near(again[:3], answers[halfway][:3])


def dependence(network: Network, length: int, frame: int) -> list[int]:
    """The frames of a clip of 32 x 32 px that one frame's logits depend on, measured by gradients."""
    x = torch.randn(1, length, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    network.double().frame_logits(x)[:, frame].square().sum().backward()
    assert x.grad is not None
    return x.grad.abs().amax((0, 2, 3, 4)).nonzero().flatten().tolist()


def check_reach(network: Network) -> None:
    """The declared reach is the measured one: not a frame more, not a frame less, none skipped in between."""
    behind, ahead = network.reach
    if network.causal:
        assert ahead == 0
        length = 3 * network.frames if behind == inf else int(behind) + 4
        now = length - 3
        assert dependence(network, length, now) == list(range(int(max(0, now - behind)), now + 1))
    else:
        last = network.frames - 1
        assert dependence(network, network.frames, last) == list(range(last - int(behind), last + 1))
        assert dependence(network, network.frames, 0) == list(range(int(ahead) + 1))
