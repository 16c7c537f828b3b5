"""The ResNet frame (He et al., CVPR 2016; torchvision's v1.5 layout and names), with a place for the temporal shift
in every block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from .network import Network
from .temporal import NoShift, State, TemporalShift, named, part, per_frame


def shortcut(inplanes: int, outplanes: int, stride: int) -> nn.Sequential | None:
    """The projection of the residual connection; None where the identity fits."""
    if stride == 1 and inplanes == outplanes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, outplanes, 1, stride, bias=False), nn.BatchNorm2d(outplanes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and 34); the shift reads the block's input, the shortcut sees it unshifted."""

    expansion: ClassVar[int] = 1

    def __init__(self, inplanes: int, planes: int, stride: int, shift: nn.Module) -> None:
        super().__init__()
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
        identity = x if self.downsample is None else per_frame(self.downsample, x)
        return self.relu(y + identity), named(after, "shift")


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride), 1x1 (ResNet-50 and 101); the shift as in `BasicBlock`."""

    expansion: ClassVar[int] = 4

    def __init__(self, inplanes: int, planes: int, stride: int, shift: nn.Module) -> None:
        super().__init__()
        self.shift = shift
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inplanes, 4 * planes, stride)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 4P, H', W'], state."""
        y, after = self.shift(x, part(state, "shift"), self.conv1)
        y = per_frame(lambda z: self.bn3(self.conv3(self.relu(self.bn2(self.conv2(self.relu(self.bn1(z))))))), y)
        identity = x if self.downsample is None else per_frame(self.downsample, x)
        return self.relu(y + identity), named(after, "shift")


BACKBONES: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(Network):
    """A segment network on a ResNet: TSN (no shift) or TSM (a shift in every block).

    `width` scales the planes of every layer (64 * width, ...). `shift_every` 2 shifts every second block of a layer,
    from its first on, which is what the official TSM does on ResNet-101.
    """

    def __init__(
        self,
        backbone: str,
        *,
        frames: int,
        classes: int,
        causal: bool,
        width: float = 1.0,
        dropout: float = 0.5,
        shifted: bool = True,
        shift_every: int = 1,
    ) -> None:
        super().__init__(frames=frames, causal=causal, dropout=dropout)
        block, depths = BACKBONES[backbone]
        planes = [max(8, round(base * width)) for base in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, planes[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inplanes = planes[0]
        for layer, (depth, outplanes) in enumerate(zip(depths, planes, strict=True), start=1):
            blocks = nn.ModuleList()
            for index in range(depth):
                moves = shifted and index % shift_every == 0
                shift = TemporalShift(inplanes, causal=causal) if moves else NoShift()
                blocks.append(block(inplanes, outplanes, 2 if index == 0 and layer > 1 else 1, shift))
                inplanes = outplanes * block.expansion
            self.add_module(f"layer{layer}", blocks)
        self.fc = nn.Linear(inplanes, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def channels_after(self, layer: str) -> int:
        """Channels of the maps that leave a layer ("layer2")."""
        last = list(self.get_submodule(layer).children())[-1]
        return int((last.bn3 if isinstance(last, Bottleneck) else last.bn2).num_features)  # type: ignore[union-attr, arg-type]

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 64 * width, H / 4, W / 4]."""
        return self.maxpool(self.relu(self.bn1(self.conv1(frames))))

    def stages(self) -> Iterator[tuple[str, nn.Module]]:
        """Every block, in order."""
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            for index, block in self.get_submodule(layer).named_children():
                yield f"{layer}.{index}", block
