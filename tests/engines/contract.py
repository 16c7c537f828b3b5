"""The streaming law, as checkers that every op and every network pass in three lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from engines.networks import Network

Step = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Mapping[str, Tensor]]]


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Eval mode, with batch norms that are not the identity (a fresh one hides mistakes)."""
    torch.manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module.eval()


def random_splits(length: int, seed: int) -> list[int]:
    """Chunk lengths that add up to `length`."""
    generator = torch.Generator().manual_seed(seed)
    cuts: list[int] = []
    while sum(cuts) < length:
        cuts.append(min(int(torch.randint(1, 6, (1,), generator=generator)), length - sum(cuts)))
    return cuts


@torch.no_grad()
def check_streaming_law(step: Step, x: Tensor, *, tolerance: float = 1e-4) -> None:
    """whole(x) == random chunks == single steps for x [B, T, ...], relative to the output's scale."""
    whole, last = step(x, {})
    scale = whole.abs().max()
    assert scale > 0
    length = x.shape[1]
    for splits in (random_splits(length, 0), random_splits(length, 1), [1] * length):
        state: Mapping[str, Tensor] = {}
        chunks = []
        for chunk in x.split(splits, 1):
            y, state = step(chunk, state)
            chunks.append(y)
        assert (torch.cat(chunks, 1) - whole).abs().max() <= tolerance * scale
        assert state.keys() == last.keys()
        for name, value in last.items():
            torch.testing.assert_close(state[name], value, rtol=tolerance, atol=tolerance)


def check_causality(network: Network, x: Tensor) -> None:
    """Frame t's logits depend on frame t and on earlier ones, and on no later one, measured by gradients."""
    x = x.clone().requires_grad_()
    moment = x.shape[1] // 2
    network.frame_logits(x)[:, moment].square().sum().backward()
    assert x.grad is not None
    per_frame = x.grad.abs().amax((0, 2, 3, 4))
    assert per_frame[moment + 1 :].max() == 0
    assert per_frame[moment] > 0
    assert per_frame[moment - 1] > 0
