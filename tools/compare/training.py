"""Training a network on clips that were drawn before, with engines/training, and asking it about others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from engines.networks import Network
from engines.training.feed import Batch, normalise
from engines.training.loop import keep_memory
from engines.training.recipe import Recipe
from engines.training.trainer import Trainer
from tools.motion.paths import LABELS

ASKED_AT_ONCE = 32


@dataclass(frozen=True)
class HeldOut:
    """Of the held-out clips the share that is named rightly."""

    accuracy: float


class Drawn:
    """The `Feed` of a file with `clips` [N, T, 3, S, S] uint8, `labels` [N], and `held_out_clips`, `held_out_labels`.

    Each epoch has its own order, which is the same for all networks that are trained with this seed.
    """

    def __init__(self, file: Path, recipe: Recipe) -> None:
        self.labels = LABELS
        self._data: dict[str, Tensor] = torch.load(file, weights_only=True, mmap=True)
        self._recipe = recipe

    def steps(self, number: int) -> int:
        """How many steps a part has: its epochs are counted out in its recipe."""
        return self._recipe.parts[number].steps or 0

    def batches(self, number: int, begin: int, before: int, rank: int) -> Iterator[Batch]:  # noqa: ARG002 - of a Feed
        """The batches of a part from its step `begin` on, for one process."""
        clips, labels = self._data["clips"], self._data["labels"]
        batch = self._recipe.parts[number].batch
        each = len(labels) // batch
        for step in range(begin, self.steps(number)):
            generator = torch.Generator().manual_seed(hash((self._recipe.seed, step // each)))
            chosen = torch.randperm(len(labels), generator=generator)[step % each * batch :][:batch]
            yield Batch(clips[chosen], labels[chosen], chosen, (), ())

    def held_out(self, net: Network, *, last: bool) -> HeldOut:  # noqa: ARG002 - of a Feed
        """On all the held-out clips."""
        return HeldOut(accuracy(net, self._data["held_out_clips"], self._data["held_out_labels"]))


def train(recipe: Recipe, clips: Path, out: Path) -> tuple[float, float]:
    """Train a network on the clips of a file, and save its state dict; its top-1 on the held-out ones, and seconds."""
    torch.set_num_threads(1)
    keep_memory()
    feed = Drawn(clips, recipe)
    trainer = Trainer(recipe, feed, out.parent, Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    started = time.monotonic()
    for batch in feed.batches(0, 0, 0, 0):
        trainer.gradients(batch)
        trainer.update()
    seconds = time.monotonic() - started
    net = trainer.averaged.eval()
    torch.save(net.state_dict(), out)
    return feed.held_out(net, last=True).accuracy, seconds


@torch.no_grad()
def accuracy(net: Network, clips: Tensor, labels: Tensor) -> float:
    """Share of clips whose mean logits are highest at their label."""
    right = sum(
        int((net.frame_logits(normalise(some)).mean(1).argmax(1) == given).sum())
        for some, given in zip(clips.split(ASKED_AT_ONCE), labels.split(ASKED_AT_ONCE), strict=True)
    )
    return right / len(labels)
