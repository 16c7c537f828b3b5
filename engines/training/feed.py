"""What a training run asks of whoever has the clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..networks import Network

IGNORE = -100
"""The label of a frame at which nobody could tell yet; the value that torch's cross entropy ignores."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB


class Batch(NamedTuple):
    """Clips of several videos; without those that cannot be read, so that it may be empty.

    clips    training: [B, T, 3, size, size]; tests: [B, V, T, 3, H, W], V views of each video; uint8 RGB
    labels   [B] int64; or [B, T] where each frame counts, IGNORE where nobody could tell
    indices  [B] int64, the videos' numbers in their set
    faults   one sentence for each video that is left out
    damaged  one sentence for each that is used with the frames that it has
    """

    clips: Tensor
    labels: Tensor
    indices: Tensor
    faults: tuple[str, ...]
    damaged: tuple[str, ...]


class HeldOut(Protocol):
    """Results on clips that training never sees; `str` of it is for people."""

    @property
    def accuracy(self) -> float:
        """0 to 1."""


class Feed(Protocol):
    """A source of clips for a recipe, shared by processes. Raises EngineError for what it cannot use."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""

    def steps(self, number: int) -> int:
        """How many steps a part of the recipe has."""

    def batches(self, number: int, begin: int, before: int, rank: int) -> Iterator[Batch]:
        """One process's shares of the batches of a part, from its step `begin` on; the parts before had `before`."""

    def held_out(self, net: Network, *, last: bool) -> HeldOut:
        """Results; `last` asks for the thorough ones."""


def normalise(clips: Tensor) -> Tensor:
    """uint8 RGB [..., 3, H, W] -> float, ImageNet-normalised."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return (clips.float() - mean) / std
