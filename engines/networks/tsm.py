"""TSN (Wang et al., "Temporal Segment Networks", ECCV 2016) and TSM (Lin et al., "TSM: Temporal Shift Module for
Efficient Video Understanding", ICCV 2019).

TSN looks at each frame alone and averages the logits. TSM shifts a part of the channels along time on the input of
the residual branch, before its first convolution: see `TemporalShift`. On ResNets it does so in every block, on the
light backbones in those that have a shortcut, as the published MobileNetV2 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .inverted import InvertedNet, MakeTemporal
from .network import STD, Plan
from .resnet import BACKBONES, BasicBlock, ResNet, ShiftBottleneck
from .statistics import Pooled, make_pooling
from .temporal import NoShift, Stage, TemporalShift

FIRST_READ = (
    4  # of a light backbone's rows of blocks, the first whose maps statistics are made of: a sixteenth of the picture
)
POOLINGS = ("mean", "statistics", "motion")
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, how bright each looks (ITU-R BT.601)


class ShiftResNet(ResNet):
    """A ResNet that shifts in every `shift_every`-th block of a layer, from its first on; in none if that is 0."""

    def __init__(self, plan: Plan, shift_every: int) -> None:
        def make_block(inplanes: int, planes: int, stride: int, index: int) -> BasicBlock | ShiftBottleneck:
            shifts = shift_every > 0 and index % shift_every == 0
            shift = TemporalShift(inplanes, causal=plan.causal) if shifts else NoShift()
            block = BasicBlock if BACKBONES[plan.backbone][0] is BasicBlock else ShiftBottleneck
            return block(inplanes, planes, stride, shift)

        super().__init__(plan, make_block)


class TSN(ShiftResNet):
    """No block shifts."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, shift_every=0)


class TSM(ShiftResNet):
    """Every block shifts; with `shift_every` 2 every second one of a layer, as in the official TSM on ResNet-101."""

    def __init__(self, plan: Plan, shift_every: int = 1) -> None:
        if shift_every < 1:
            raise ValueError(f"shift_every is 1 (every block) or more, not {shift_every}; without a shift it is tsn")
        super().__init__(plan, shift_every)


class LightSegments(InvertedNet):
    """A light backbone and what the head reads of it. `pooling` is mean, or of the last T frames, see
    `StatisticsPooling`: statistics of the maps of the last rows of blocks and of the last convolution; or motion, those
    and how the picture moved.
    """

    luma: Tensor

    def __init__(self, plan: Plan, pooling: str, make_temporal: MakeTemporal | None = None) -> None:
        super().__init__(plan, make_temporal)
        self.pooling = make_pooling(pooling, plan, known=POOLINGS)
        if self.pooling is not None:
            channels = self.fc.in_features + sum(channels for _, channels in self.rows[FIRST_READ:])
            self.emphasis = self.pooling.emphasis(channels)
            self.fc = nn.Linear(len(self.emphasis), plan.classes)
            shares = torch.tensor(LUMA).view(3, 1, 1) * torch.tensor(STD).view(3, 1, 1)
            self.register_buffer("luma", shares, persistent=False)

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 32 * width, H / 2, W / 2]; with motion one channel more, how bright the picture is."""
        x = super().stem(frames)
        if self.pooling is None or self.pooling.motion is None:
            return x
        grey = (frames * self.luma).sum(1, keepdim=True)
        return torch.cat([x, F.avg_pool2d(grey, 2, ceil_mode=True)], 1)

    def blocks(self) -> Iterator[tuple[str, Stage]]:
        """The blocks and what stands between them, then the last convolution."""
        return super().stages()

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The blocks and the last convolution; with statistics, those of the rows that are read are one stage, and
        with motion all are.
        """
        stages = list(self.blocks())
        if self.pooling is None:
            yield from stages
            return
        names = [name for name, _ in stages]
        ends = [names.index(f"features.{last}") + 1 for last, _ in self.rows[FIRST_READ - 1 :]]
        begin = 0 if self.pooling.motion is not None else ends[0]
        yield from stages[:begin]
        first, *others = pairwise([*ends, len(stages)])
        groups = (stages[begin : first[1]], *(stages[a:b] for a, b in others))
        yield "pooling", Pooled(tuple(map(tuple, groups)), self.pooling)


class LightTSN(LightSegments):
    """No block shifts."""

    def __init__(self, plan: Plan, pooling: str = "mean") -> None:
        super().__init__(plan, pooling)


class LightTSM(LightSegments):
    """Every block with a shortcut shifts, from `features.<shift_from>` on. Choice: those before keep the maps that
    their weights were trained on, so that they can stay frozen.
    """

    def __init__(self, plan: Plan, shift_from: int = 1, pooling: str = "mean") -> None:
        def make_shift(index: int, channels: int) -> NoShift | TemporalShift:
            return TemporalShift(channels, causal=plan.causal) if index >= shift_from else NoShift()

        super().__init__(plan, pooling, make_shift)
        if not 1 <= shift_from < len(self.features) - 1:
            raise ValueError(
                f"shift_from is a block from 1 to {len(self.features) - 2}, not {shift_from}; without a shift it is tsn"
            )
