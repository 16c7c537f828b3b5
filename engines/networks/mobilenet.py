"""MobileNetV2 (Sandler et al., CVPR 2018) as TSN and TSM, under the names of the published online TSM:
`features.N.conv.M`, the head `fc`.

The shift reads the input of the inverted residual blocks 2, 4, 5, 7, 8, 9, 11, 12, 14 and 15 (0-based; `features.N`
holds block N - 1): all that have a shortcut but none other. The shortcut sees the unshifted input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .network import Network, Plan
from .temporal import ITSELF, NoShift, Reach, Stage, State, TemporalShift, named, part, per_frame

SETTING = (  # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def scaled(channels: int, width: float) -> int:
    """A multiple of 8 near channels * width, at least 8 and not below 90% of it, as the published networks round."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def conv_bn(inplanes: int, planes: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its batch norm."""
    return [nn.Conv2d(inplanes, planes, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(planes)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the shift reads the block's input where there is a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int, expansion: int, shift: NoShift | TemporalShift) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inplanes == planes
        self.shift = shift
        self.reach = shift.reach
        hidden = inplanes * expansion
        expand = [*conv_bn(inplanes, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            *conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *conv_bn(hidden, planes, 1),
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, P, H', W'], state."""
        y, after = self.shift(x, part(state, "shift"), cast(nn.Conv2d, self.conv[0]))
        y = per_frame(self.conv[1:], y)
        return per_frame(torch.add, x, y) if self.shortcut else y, named(after, "shift")


@dataclass(frozen=True)
class PerFrame:
    """2-D layers as a stage without memory."""

    layers: nn.Module
    reach: Reach = ITSELF

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """x [B, T, C, H, W] -> [B, T, P, H', W'], {}."""
        return per_frame(self.layers, x), {}


class MobileNetV2(Network):
    """TSN on MobileNetV2; `shifted`, and it is TSM."""

    def __init__(self, plan: Plan, shifted: bool) -> None:
        super().__init__(plan)
        channels, last = scaled(32, plan.width), scaled(1280, max(1.0, plan.width))
        self.features = nn.ModuleList([nn.Sequential(*conv_bn(3, channels, 3, 2), nn.ReLU6())])
        for expansion, base, depth, first_stride in SETTING:
            outplanes = scaled(base, plan.width)
            for index in range(depth):
                moves = shifted and index > 0
                shift = TemporalShift(channels, causal=plan.causal) if moves else NoShift()
                stride = first_stride if index == 0 else 1
                self.features.append(InvertedResidual(channels, outplanes, stride, expansion, shift))
                channels = outplanes
        self.features.append(nn.Sequential(*conv_bn(channels, last, 1), nn.ReLU6()))
        self.fc = nn.Linear(last, plan.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 32 * width, H / 2, W / 2]."""
        return self.features[0](frames)

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The 17 blocks, then the last convolution."""
        *blocks, last = list(self.features)[1:]
        for index, block in enumerate(blocks, start=1):
            yield f"features.{index}", cast(Stage, block)
        yield f"features.{len(blocks) + 1}", PerFrame(last)


class MobileTSN(MobileNetV2):
    """No block shifts."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, shifted=False)


class MobileTSM(MobileNetV2):
    """Every block with a shortcut shifts."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, shifted=True)
