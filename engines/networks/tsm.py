"""TSN (Wang et al., "Temporal Segment Networks", ECCV 2016) and TSM (Lin et al., "TSM: Temporal Shift Module for
Efficient Video Understanding", ICCV 2019) on ResNets.

TSN looks at each frame alone and averages the logits. TSM shifts a part of the channels along time on the input of
the residual branch, before conv1, in every block: see `TemporalShift`.
"""

from __future__ import annotations

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
