"""How a picture moves, told without weights: block matching of grey pictures, and histograms of what it finds.

The displacement of a block is the expectation under a softmax of how well it fits the picture before (soft argmin; as
TCM's soft argmax, on pictures instead of maps). Its directions are counted as in HOF (Laptev et al., "Learning
Realistic Human Actions from Movies", CVPR 2008), those of its derivatives as in MBH (Dalal et al., "Human Detection
Using Oriented Histograms of Flow and Appearance", ECCV 2006), which a camera's own movement changes little. Choice:
soft counts, and a square root as in RootSIFT, so that a linear layer can read them.

Nothing here is learned, so that the layer behind it can be solved for from clips that are looked at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .temporal import State, delay, newest, per_frame, started_after

REACH = 4  # places of a grey picture, in each direction
BLOCK = 7  # sides of a block, in places; there is one at each second place
NEAR = 0.3  # what the farthest displacement costs beside one that fits as well
SOFTNESS = 0.03  # of the softmax, whose differences are shares of the block's energy
SHADES = 1e-3  # energy of a block without a pattern, of grey from 0 to 1
PIXELS = 4  # of the picture, a place of the grey one
DIRECTIONS = 8
STILL = (1.0, 1.0, 0.5, 0.5)  # pixels a frame below which a displacement, and a derivative of it, is none


def patterns(grey: Tensor) -> Tensor:
    """Grey pictures [N, 1, H, W] -> [N, 3, H, W]: what differs from the surroundings, and the derivatives."""
    around = F.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
    return torch.cat([grey - around, *_derivatives(grey)], 1)


def _derivatives(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the neighbours along the width and along the height, each [N, C, H, W]; 0 at the borders."""
    return F.pad(x[..., 2:] - x[..., :-2], (1, 1, 0, 0)), F.pad(x[:, :, 2:] - x[:, :, :-2], (0, 0, 1, 1))


def displacement(earlier: Tensor, later: Tensor) -> Tensor:
    """Grey pictures [N, 1, H, W], 0 to 1, twice -> where the blocks of the earlier one went, [N, 2, H / 2, W / 2], x
    and y in pixels.
    """
    before, now = patterns(earlier), patterns(later)
    height, width = before.shape[-2:]
    side = range(2 * REACH + 1)
    padded = F.pad(now, (REACH, REACH, REACH, REACH), mode="replicate")
    rows = torch.stack([padded[:, :, dy : dy + height] for dy in side], 1)  # [N, 9, 3, H, W + 8]
    here = before.unsqueeze(1)
    misfit = torch.stack([(here - rows[..., dx : dx + width]).square().sum(2) for dx in side], 2)  # [N, 9, 9, H, W]
    misfit, energy = _blocks(misfit.flatten(1, 2)), _blocks(before.square().sum(1, keepdim=True))
    steps = torch.arange(-REACH, REACH + 1, device=before.device, dtype=before.dtype)
    y, x = (steps.repeat_interleave(len(side)).view(1, -1, 1, 1), steps.repeat(len(side)).view(1, -1, 1, 1))
    cost = misfit / (energy + SHADES) + NEAR * (x.square() + y.square()) / REACH**2
    weights = torch.softmax(-cost / SOFTNESS, 1)
    return PIXELS * torch.stack([(weights * x).sum(1), (weights * y).sum(1)], 1)


def _blocks(x: Tensor) -> Tensor:
    """Means over the blocks, [N, C, H, W] -> [N, C, H / 2, W / 2]."""
    return F.avg_pool2d(x, BLOCK, 2, BLOCK // 2, count_include_pad=False)


def histograms(moved: Tensor) -> Tensor:
    """Displacements [N, 2, H, W] -> [N, 4 * 9 * 4]: of the displacements, of what they differ from the mean by, and of
    the derivatives of x and of y; for each how much goes in each of eight directions and how much of the picture is
    still; in each quarter of the picture.
    """
    along_x, along_y = _derivatives(moved)
    fields = (moved, moved - moved.mean((2, 3), keepdim=True),
              *(torch.stack([along_x[:, n], along_y[:, n]], 1) for n in range(2)))  # fmt: skip
    counts = torch.cat([_directions(field, still) for field, still in zip(fields, STILL, strict=True)], 1)
    height, width = counts.shape[-2:]
    quarter = (height + 1) // 2, (width + 1) // 2  # of an odd side the middle counts twice
    return torch.sqrt(F.avg_pool2d(counts, quarter, (height // 2, width // 2)).flatten(1) + 1e-3)


def _directions(field: Tensor, still: float) -> Tensor:
    """[N, 2, H, W] -> [N, 9, H, W]: the lengths along eight directions, not below 0, and 1 where it is still."""
    angles = torch.arange(DIRECTIONS, device=field.device, dtype=field.dtype) * (2 * math.pi / DIRECTIONS)
    x, y = field[:, :1], field[:, 1:]
    along = torch.relu(x * angles.cos().view(1, -1, 1, 1) + y * angles.sin().view(1, -1, 1, 1))
    length = torch.sqrt(x.square() + y.square() + 1e-12)
    return torch.cat([along, torch.sigmoid((still - length) * (4 / still))], 1)


class MotionHistograms(nn.Module):
    """Grey pictures [B, T, 1, H, W] -> how each moved since the one before, [B, T, 144]; the first one did not.

    State of the causal form: `last` [B, 1, H, W], the newest picture; `started` [B], 1 once there is one.
    """

    size = 4 * (DIRECTIONS + 1) * 4

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, grey: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, 1, H, W], state -> [B, T, 144], state."""
        before, first = delay(grey, state.get("last")), grey[:, :1]
        if state:
            first = torch.where(state["started"].view(-1, 1, 1, 1, 1) > 0, before[:, :1], first)
        before = first if grey.shape[1] == 1 else torch.cat([first, before[:, 1:]], 1)
        vectors = per_frame(lambda a, b: histograms(displacement(a, b)), before, grey)
        return vectors, {"last": newest(grey), "started": started_after(grey[:, 0], state)} if self.causal else {}
