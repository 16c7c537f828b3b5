"""TSN (Wang et al., "Temporal Segment Networks", ECCV 2016) and TSM (Lin et al., "TSM: Temporal Shift Module for
Efficient Video Understanding", ICCV 2019).

TSN looks at each frame alone and averages the logits. TSM shifts a part of the channels along time on the input of
the residual branch, before its first convolution: see `TemporalShift`. On ResNets it does so in every block, on the
light backbones in those that have a shortcut, as the published MobileNetV2 does.
"""

from __future__ import annotations

from .inverted import InvertedNet
from .network import Plan
from .resnet import BACKBONES, BasicBlock, ResNet, ShiftBottleneck
from .temporal import NoShift, TemporalShift


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


class LightTSN(InvertedNet):
    """No block shifts."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)


class LightTSM(InvertedNet):
    """Every block with a shortcut shifts, from `features.<shift_from>` on. Choice: those before keep the maps that
    their weights were trained on, so that they can stay frozen.
    """

    def __init__(self, plan: Plan, shift_from: int = 1) -> None:
        def make_shift(index: int, channels: int) -> NoShift | TemporalShift:
            return TemporalShift(channels, causal=plan.causal) if index >= shift_from else NoShift()

        super().__init__(plan, make_shift)
        if not 1 <= shift_from < len(self.features) - 1:
            raise ValueError(
                f"shift_from is a block from 1 to {len(self.features) - 2}, not {shift_from}; without a shift it is tsn"
            )
