"""TANet: a temporal kernel that each clip makes for itself (Liu et al., "TAM: Temporal Adaptive Module for Video
Recognition", ICCV 2021), in every bottleneck between conv1 + BN + ReLU and conv2.

With X the block's reduced maps, theta[c, t] their spatial means:

    V[c, t]    = sigmoid(L(theta))          what matters when: two convolutions along time, over all channels
    k[c, 0..2] = softmax(G(theta[c, :]))    how to mix neighbours: two linear layers over T, shared by all channels
    Y[t]       = sum_j k[j] * (V * X)[t + j - 1], zero outside the clip

T is baked into G. Causal form, at time t: G reads theta of the last T frames (zeros before the stream), oldest first;
L and the mixing lose the tap that looks ahead, and k is not scaled up for the one that is lost.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .inverted import InvertedNet
from .network import Plan
from .resnet import Bottleneck, ResNet, require_bottlenecks
from .temporal import Reach, State, advance, delay, named, newest, part, per_frame, scale, windows


class TAM(nn.Module):
    """Temporal adaptive module. State of the causal form: `theta` [B, T - 1, C], the last spatial means; `last`
    [B, C, H, W], V * X of the last frame.
    """

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:
        super().__init__()
        self.frames = frames
        self.causal = causal
        self.reach = Reach(max(frames - 1, 2), 0) if causal else Reach(frames - 1, frames - 1)
        hidden = max(1, channels // 4)
        self.G = nn.Sequential(
            nn.Linear(frames, 2 * frames, bias=False),
            nn.BatchNorm1d(2 * frames),
            nn.ReLU(),
            nn.Linear(2 * frames, 3, bias=False),
            nn.Softmax(-1),
        )
        self.L = nn.Sequential(
            nn.Conv1d(channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the same shape, state."""
        if not self.causal and x.shape[1] != self.frames:
            raise ValueError(f"TANet made for {self.frames} frames got a clip of {x.shape[1]}")
        theta = per_frame(lambda z: z.mean((2, 3)), x)  # [B, T, C]
        seen, ring = windows(theta, state.get("theta"), self.frames) if self.causal else (theta.unsqueeze(1), theta)
        columns = seen.transpose(2, 3)  # [B, T or 1, C, frames]
        kernel = self.G(columns.flatten(0, 2)).view(*columns.shape[:3], 3).expand(-1, x.shape[1], -1, -1)
        weighted = per_frame(scale, x, self.importance(theta, state))
        before, now, after = kernel.unbind(3)  # each [B, T, C]
        earlier = delay(weighted, state.get("last"))
        y = per_frame(lambda b, e, n, z: scale(e, b) + scale(z, n), before, earlier, now, weighted)
        if self.causal:
            return y, {"theta": ring, "last": newest(weighted)}
        return y + per_frame(scale, advance(weighted), after), {}

    def importance(self, theta: Tensor, state: State) -> Tensor:
        """V of the frames with means theta [B, T, C] -> [B, T, C]."""
        first = cast(nn.Conv1d, self.L[0])
        along_time = theta.transpose(1, 2)  # [B, C, T]
        if self.causal:
            before = state["theta"][:, -1] if state else torch.zeros_like(theta[:, 0])
            hidden = F.conv1d(torch.cat([before.unsqueeze(2), along_time], 2), first.weight[:, :, :2], first.bias)
        else:
            hidden = first(along_time)
        return self.L[1:](hidden).transpose(1, 2)


class TANetBlock(Bottleneck):
    """A bottleneck with the module after its reduction."""

    def __init__(self, inplanes: int, planes: int, stride: int, *, frames: int, causal: bool) -> None:
        tam = TAM(planes, frames=frames, causal=causal)
        super().__init__(inplanes, planes, stride, tam.reach)
        self.tam = tam

    def residual(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 4P, H', W'], state."""
        y = per_frame(lambda z: self.relu(self.bn1(self.conv1(z))), x)
        y, after = self.tam(y, part(state, "tam"))
        return per_frame(lambda z: self.bn3(self.conv3(self.relu(self.bn2(self.conv2(z))))), y), named(after, "tam")


def check(plan: Plan) -> None:
    """Raise ValueError for clips that are too short."""
    if plan.frames < 2:
        raise ValueError(f"TANet mixes neighbouring frames and needs at least 2; got {plan.frames}")


class TANet(ResNet):
    """A ResNet with the temporal adaptive module in every bottleneck."""

    def __init__(self, plan: Plan) -> None:
        require_bottlenecks(plan, "TANet")
        check(plan)
        super().__init__(
            plan,
            lambda inplanes, planes, stride, _: TANetBlock(
                inplanes, planes, stride, frames=plan.frames, causal=plan.causal
            ),
        )


class AdaptedInput(nn.Module):
    """The module, and the convolution that reads its result."""

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:
        super().__init__()
        self.tam = TAM(channels, frames=frames, causal=causal)
        self.reach = self.tam.reach

    def forward(self, x: Tensor, state: State, conv: nn.Conv2d) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> conv(tam(x)) [B, T, P, H', W'], state."""
        y, after = self.tam(x, part(state, "tam"))
        return per_frame(conv, y), named(after, "tam")


class LightTANet(InvertedNet):
    """A light backbone with the module on the input of every block that has a shortcut. Choice: the paper's place,
    behind the first convolution, has the fewest channels of a bottleneck and the most of an inverted residual.
    """

    def __init__(self, plan: Plan) -> None:
        check(plan)
        super().__init__(plan, lambda _, channels: AdaptedInput(channels, frames=plan.frames, causal=plan.causal))
