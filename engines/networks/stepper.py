"""The wrapper that is exported: one step of many streams, from camera bytes to logits, with the state in its signature.

frames uint8 [B, H, W, 3] (BGR), active bool [B], fresh bool [B], state... -> logits [B, K], ready bool [B], state...
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import Network

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in [0, 1]
SEEN = "seen"


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row, `yes` where mask [B] holds, else `no` [B, ...]. A selection, so that NaN in one never reaches the
    other.
    """
    return torch.where(mask.view(-1, *[1] * (no.dim() - 1)), yes, no)


class StreamStepper(nn.Module):
    """A causal network as one step of B independent streams, the cost of one frame whatever T is.

    `fresh` rows start from the initial state; rows that are not `active` keep their state bit for bit (their logits
    mean nothing). `ready` holds from a row's T-th frame on. The logits are the newest frame's own, not a mean over
    the window: that would answer late, and the events are smoothed in time anyway.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, height: int, width: int) -> None:
        super().__init__()
        if not network.causal:
            raise ValueError("a stream needs the causal form of the network (causal=True)")
        self.network = network
        self.height, self.width = height, width
        self.state_names = (*network.initial_state(1, height, width), SEEN)
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def initial_state(self, rows: int) -> tuple[Tensor, ...]:
        """All zeros, in the order of `state_names`."""
        state = self.network.initial_state(rows, self.height, self.width)
        return (*state.values(), next(iter(self.parameters())).new_zeros(rows))

    def forward(self, frames: Tensor, active: Tensor, fresh: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step; the order of the state is `state_names`."""
        before = [choose(fresh, value.new_zeros(()), value) for value in state]
        rgb = frames.permute(0, 3, 1, 2).to(self.mean.dtype).flip(1)  # [B, H, W, BGR] -> [B, RGB, H, W]
        clip = ((rgb - self.mean) / self.std).unsqueeze(1)  # [B, 1, 3, H, W]
        logits, after = self.network(clip, dict(zip(self.state_names, before, strict=True)))
        seen = torch.clamp(before[-1] + 1, max=self.network.frames)
        kept = [choose(active, new, old) for new, old in zip((*after.values(), seen), state, strict=True)]
        return logits[:, 0], kept[-1] >= self.network.frames, *kept
