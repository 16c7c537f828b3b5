"""The ResNet frame (He et al., CVPR 2016; torchvision's v1.5 layout and names). How a block is made is the paper's
affair: each network of this package hands the frame its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, cast

from torch import Tensor, nn

from .network import Network, Plan
from .temporal import NoShift, Reach, Stage, State, TemporalShift, named, part, per_frame


def shortcut(inplanes: int, outplanes: int, stride: int) -> nn.Sequential | None:
    """The projection of the residual connection; None where the identity fits."""
    if stride == 1 and inplanes == outplanes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, outplanes, 1, stride, bias=False), nn.BatchNorm2d(outplanes))


def join(block: Block, y: Tensor, x: Tensor) -> Tensor:
    """The residual connection: the branch's result y [N, P, H', W'] and the block's input x [N, C, H, W]."""
    return block.relu(y + (x if block.downsample is None else block.downsample(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and 34); the shift reads the block's input, the shortcut sees it unshifted."""

    expansion: ClassVar[int] = 1

    def __init__(self, inplanes: int, planes: int, stride: int, shift: NoShift | TemporalShift) -> None:
        super().__init__()
        self.reach = shift.reach
        self.shift = shift
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inplanes, planes, stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, P, H', W'], state."""
        y, after = self.shift(x, part(state, "shift"), self.conv1)
        y = per_frame(lambda z: self.bn2(self.conv2(self.relu(self.bn1(z)))), y)
        return per_frame(partial(join, self), y, x), named(after, "shift")


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride), 1x1 (ResNet-26, 50 and 101). Subclasses say how the residual branch runs along
    time, and how far it reaches.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, inplanes: int, planes: int, stride: int, reach: Reach) -> None:
        super().__init__()
        self.reach = reach
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inplanes, 4 * planes, stride)

    def residual(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The residual branch: x [B, T, C, H, W] -> [B, T, 4P, H', W'] before the last ReLU, state."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 4P, H', W'], state."""
        y, after = self.residual(x, state)
        return per_frame(partial(join, self), y, x), after


class ShiftBottleneck(Bottleneck):
    """TSM's bottleneck: the shift as in `BasicBlock`."""

    def __init__(self, inplanes: int, planes: int, stride: int, shift: NoShift | TemporalShift) -> None:
        super().__init__(inplanes, planes, stride, shift.reach)
        self.shift = shift

    def residual(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 4P, H', W'], state."""
        y, after = self.shift(x, part(state, "shift"), self.conv1)
        y = per_frame(lambda z: self.bn3(self.conv3(self.relu(self.bn2(self.conv2(self.relu(self.bn1(z))))))), y)
        return y, named(after, "shift")


Block = BasicBlock | Bottleneck
BACKBONES: dict[str, tuple[type[Block], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet26": (Bottleneck, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


def require_bottlenecks(plan: Plan, paper: str) -> None:
    """Raise ValueError if the paper's module, which lives in bottlenecks, has no place in the backbone."""
    if BACKBONES[plan.backbone][0] is not Bottleneck:
        fit = ", ".join(name for name, (block, _) in BACKBONES.items() if block is Bottleneck)
        raise ValueError(f"{paper} is a part of bottleneck blocks and {plan.backbone} has none; take one of {fit}")


class ResNet(Network):
    """A segment network on a ResNet. `make_block(inplanes, planes, stride, index)` gives each block of a layer.

    `width` scales the planes of every layer (64 * width, ..., at least 8).
    """

    def __init__(self, plan: Plan, make_block: Callable[[int, int, int, int], Block]) -> None:
        super().__init__(plan)
        planes = [max(8, round(base * plan.width)) for base in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, planes[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = planes[0]
        self.channels: dict[str, int] = {}  # of the maps that leave a layer
        for layer, (depth, outplanes) in enumerate(zip(BACKBONES[plan.backbone][1], planes, strict=True), start=1):
            blocks = nn.ModuleList()
            for index in range(depth):
                block = make_block(channels, outplanes, 2 if index == 0 and layer > 1 else 1, index)
                blocks.append(block)
                channels = outplanes * block.expansion
            self.add_module(f"layer{layer}", blocks)
            self.channels[f"layer{layer}"] = channels
        self.fc = nn.Linear(channels, plan.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 64 * width, H / 4, W / 4]."""
        return self.maxpool(self.relu(self.bn1(self.conv1(frames))))

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Every block, in order."""
        for layer in self.channels:
            for index, block in self.get_submodule(layer).named_children():
                yield f"{layer}.{index}", cast(Stage, block)
