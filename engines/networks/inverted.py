"""The frame of the light backbones, whose blocks are inverted residuals: MobileNetV2 (Sandler et al., CVPR 2018) and
EfficientNet-Lite0 (EfficientNet, Tan and Le, ICML 2019, without its squeeze and excitation and with ReLU6), under the
names of the published online TSM: `features.N.conv.M`, the head `fc`.

`features.0` is the stem, the last of `features` the last convolution, and a block each in between. What time is done
to is a block's input, where the block has a shortcut; the shortcut sees the input as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import MEAN, STD, Network, Plan
from .temporal import ITSELF, NoShift, Reach, Stage, State, named, part, per_frame


class Row(NamedTuple):
    """Blocks in a row; the stride is the first one's."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int


@dataclass(frozen=True)
class Design:
    """What tells the light backbones apart.

    rows        from the stem, of 32 channels, to the last convolution, of 1280
    tensorflow  as its networks are written: convolutions of stride 2 pad as much as they need and more of it at the
                end, batch norms have an epsilon of 1e-3, and pictures are (RGB - 127) / 128
    """

    rows: tuple[Row, ...]
    tensorflow: bool


BACKBONES = {
    "mobilenet_v2": Design(
        (
            Row(1, 16, 1, 1, 3), Row(6, 24, 2, 2, 3), Row(6, 32, 3, 2, 3), Row(6, 64, 4, 2, 3),
            Row(6, 96, 3, 1, 3), Row(6, 160, 3, 2, 3), Row(6, 320, 1, 1, 3),
        ),
        tensorflow=False,
    ),
    "efficientnet_lite0": Design(
        (
            Row(1, 16, 1, 1, 3), Row(6, 24, 2, 2, 3), Row(6, 40, 2, 2, 5), Row(6, 80, 3, 2, 3),
            Row(6, 112, 3, 1, 5), Row(6, 192, 4, 2, 5), Row(6, 320, 1, 1, 3),
        ),
        tensorflow=True,
    ),
}  # fmt: skip


class Temporal(Protocol):
    """What a block does along time, together with the convolution that reads the result."""

    reach: Reach

    def __call__(self, x: Tensor, state: State, conv: nn.Conv2d) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, P, H', W'], state."""
        ...


MakeTemporal = Callable[[int, int], nn.Module]
"""The `Temporal` of the block `features.N` with C input channels: (N, C) -> module."""


def scaled(channels: int, width: float) -> int:
    """A multiple of 8 near channels * width, at least 8 and not below 90% of it, as the published networks round."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


class SameConv2d(nn.Conv2d):
    """A convolution whose output is its input's size over the stride, rounded up: of an odd number of zeros one more
    stands at the right and at the bottom (TensorFlow's `SAME`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, P, ceil(H / stride), ceil(W / stride)]."""
        sides: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):  # width first
            zeros = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            sides += [zeros // 2, zeros - zeros // 2]
        return super().forward(F.pad(x, sides))


def conv_bn(inplanes: int, planes: int, kernel: int, stride: int, groups: int, *, tensorflow: bool) -> list[nn.Module]:
    """A convolution without bias and its batch norm."""
    if tensorflow and stride > 1:
        conv: nn.Conv2d = SameConv2d(inplanes, planes, kernel, stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(inplanes, planes, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(planes, eps=1e-3 if tensorflow else 1e-5)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project."""

    def __init__(self, inplanes: int, planes: int, row: Row, shift: nn.Module, *, tensorflow: bool = False) -> None:
        super().__init__()
        self.shortcut = row.stride == 1 and inplanes == planes
        self.shift = shift
        self.reach = cast(Temporal, shift).reach
        hidden = inplanes * row.expansion
        expand = [*conv_bn(inplanes, hidden, 1, 1, 1, tensorflow=tensorflow), nn.ReLU6()] if row.expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            *conv_bn(hidden, hidden, row.kernel, row.stride, hidden, tensorflow=tensorflow),
            nn.ReLU6(),
            *conv_bn(hidden, planes, 1, 1, 1, tensorflow=tensorflow),
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, P, H', W'], state."""
        y, after = self.shift(x, part(state, "shift"), self.conv[0])
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


class InvertedNet(Network):
    """A segment network on a light backbone. `make_temporal` is asked for the blocks that have a shortcut; without it
    no block looks along time.
    """

    offset: Tensor
    gain: Tensor

    def __init__(self, plan: Plan, make_temporal: MakeTemporal | None = None) -> None:
        super().__init__(plan)
        design = BACKBONES[plan.backbone]
        tensorflow = self.tensorflow = design.tensorflow
        channels, last = scaled(32, plan.width), scaled(1280, max(1.0, plan.width))
        self.features = nn.ModuleList(
            [nn.Sequential(*conv_bn(3, channels, 3, 2, 1, tensorflow=tensorflow), nn.ReLU6())]
        )
        self.rows: list[tuple[int, int]] = []  # of each row the last block of `features`, and its channels
        for row in design.rows:
            outplanes = scaled(row.channels, plan.width)
            for index in range(row.blocks):
                here = row if index == 0 else row._replace(stride=1)
                shift = make_temporal(len(self.features), channels) if make_temporal and index > 0 else NoShift()
                self.features.append(InvertedResidual(channels, outplanes, here, shift, tensorflow=tensorflow))
                channels = outplanes
            self.rows.append((len(self.features) - 1, channels))
        self.features.append(nn.Sequential(*conv_bn(channels, last, 1, 1, 1, tensorflow=tensorflow), nn.ReLU6()))
        self.fc = nn.Linear(last, plan.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        self.register_buffer("offset", (255 * mean - 127) / 128, persistent=False)
        self.register_buffer("gain", 255 * std / 128, persistent=False)

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 32 * width, H / 2, W / 2]."""
        return self.features[0](frames * self.gain + self.offset if self.tensorflow else frames)

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The blocks, then the last convolution."""
        *blocks, last = list(self.features)[1:]
        for index, block in enumerate(blocks, start=1):
            yield f"features.{index}", cast(Stage, block)
        yield f"features.{len(blocks) + 1}", PerFrame(last)
