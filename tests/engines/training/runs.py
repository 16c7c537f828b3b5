"""Tiny training runs: a recipe and a feed that take a moment, and what a run leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from engines.errors import EngineError
from engines.networks import Network
from engines.training.feed import IGNORE, Batch, Feed, normalise
from engines.training.initial import build, frozen
from engines.training.loop import Stop, run
from engines.training.recipe import Recipe
from engines.training.trainer import Trainer, loss_of

LABELS = ("jump", "run", "walk")
PART: dict[str, Any] = {"steps": 2, "batch": 4, "size": 32, "learning_rate": 2e-3, "clip_frames": 8}
TINY: dict[str, Any] = {
    "network": "tsm", "backbone": "resnet18", "width": 0.125, "size": 32, "dropout": 0.0, "frames": 4,
    "parts": [PART, PART | {"steps": 4}], "warmup_steps": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Guessed:
    """The share of held-out clips that was told rightly."""

    accuracy: float


class Shades:
    """The `Feed` of clips whose brightness is their label. A step of a run always gets the same ones.

    faults  come with each batch
    count   of the clips in a batch of each process; None: its share
    """

    labels: tuple[str, ...] = LABELS
    faults: tuple[str, ...] = ()
    count: int | None = None

    def __init__(self, recipe: Recipe, world: int) -> None:
        self.recipe, self.world = recipe, world

    def steps(self, number: int) -> int:
        return self.recipe.parts[number].steps or 0

    def batches(self, number: int, begin: int, before: int, rank: int) -> Iterator[Batch]:
        part = self.recipe.parts[number]
        count = part.batch // self.world if self.count is None else self.count
        for step in range(before + begin, before + self.steps(number)):
            rng = torch.Generator().manual_seed(hash((self.recipe.seed, step, rank)))
            labels = torch.randint(len(LABELS), (count,), generator=rng)
            noise = torch.randint(80, (count, part.clip_frames, 3, part.size, part.size), generator=rng)
            clips = (80 * labels[:, None, None, None, None] + noise).to(torch.uint8)
            if part.clip_frames > self.recipe.frames:
                labels = labels[:, None].repeat(1, part.clip_frames)
                labels[:, : self.recipe.frames - 1] = IGNORE
            yield Batch(clips, labels, torch.arange(count), self.faults, ())

    @torch.no_grad()
    def held_out(self, net: Network, *, last: bool) -> Guessed:
        net.eval()
        shades = torch.tensor([40, 120, 200], dtype=torch.uint8)[:, None, None, None, None]
        logits = net.frame_logits(normalise(shades.expand(-1, self.recipe.frames, 3, 32, 32))).mean(1)
        if not logits.isfinite().all():
            raise EngineError("the answers are no numbers")
        return Guessed(float((logits.argmax(1) == torch.arange(3)).float().mean()))


OpenFeed = Callable[[Any, int], Feed]
"""Recipe and number of processes -> the feed."""


class Interrupted(Trainer):
    """Its process gets a signal after one of its steps."""

    after = 0

    def update(self) -> float:
        rate = super().update()
        if self.step == self.after:
            os.kill(os.getpid(), signal.SIGTERM)
        return rate


def recipe_of(**changes: Any) -> Recipe:
    """The tiny recipe, some keys changed."""
    return Recipe.model_validate(TINY | changes)


def trainer_of(
    recipe: Recipe,
    out: Path,
    kind: type[Trainer] = Trainer,
    fabric: Fabric | None = None,
    open_feed: OpenFeed = Shades,
) -> Trainer:
    """A trainer, of this process alone or of several."""
    out.mkdir(parents=True, exist_ok=True)
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    return kind(recipe, open_feed(recipe, fabric.world_size), out, fabric)


def first_batch(trainer: Trainer) -> Batch:
    return next(trainer.feed.batches(0, 0, 0, 0))


def finish(trainer: Trainer) -> bool:
    """Train to the end; False where a signal came before."""
    with Stop() as stop:
        return run(trainer, stop)


def interrupt(
    recipe: Recipe,
    out: Path,
    after: int,
    fabric: Fabric | None = None,
    rank: int = 0,
    open_feed: OpenFeed = Shades,
) -> None:
    """Begin a run, and end it by a signal to one of its processes after so many steps."""
    trainer = trainer_of(recipe, out, Interrupted, fabric, open_feed)
    assert isinstance(trainer, Interrupted)
    trainer.after = after if trainer.fabric.global_rank == rank else 0
    assert not finish(trainer)
    assert trainer.step == after


def resume(recipe: Recipe, out: Path, fabric: Fabric | None = None, open_feed: OpenFeed = Shades) -> Trainer:
    """Go on with a run to its end."""
    trainer = trainer_of(recipe, out, fabric=fabric, open_feed=open_feed)
    trainer.load()
    assert finish(trainer)
    return trainer


def same(first: Any, second: Any) -> bool:
    """Whether two nested contents are equal, tensors to the last bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def checkpoint_in(out: Path) -> dict[str, Any]:
    """What --resume would load."""
    content: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return content


def assert_same_runs(first: Path, second: Path) -> None:
    """Two runs have ended alike, to the last bit."""
    ours, theirs = checkpoint_in(first), checkpoint_in(second)
    for key in ("step", "network", "average", "optimizer"):
        assert same(ours[key], theirs[key]), key
    assert (first / "weights.pt").read_bytes() == (second / "weights.pt").read_bytes()


def two_processes(fabric: Fabric, out: Path) -> dict[str, Any]:
    """What each of two processes does; how far the gradients are from those of one process and the weights from the
    other's, how many have seen numbers that are none, and what is said of a full disk.
    """
    torch.set_num_threads(1)
    recipe = recipe_of(processes=2, dropout=0.3)
    assert finish(trainer_of(recipe, out / "whole", fabric=fabric))
    interrupt(recipe, out / "parts", after=3, fabric=fabric, rank=1)
    trainer = resume(recipe, out / "parts", fabric)
    found: dict[str, Any] = {"weights difference": max(_apart(fabric, p) for p in trainer.net.parameters())}

    norms = [name for name, module in trainer.net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    recipe = recipe_of(processes=2, frames=8, freeze=norms)  # a norm sees its own process's clips
    trainer = trainer_of(recipe, out / "gradients", fabric=fabric)
    shares = [next(trainer.feed.batches(0, 0, 0, rank)) for rank in (0, 1)]
    trainer.gradients(shares[fabric.global_rank])
    alone = build(recipe, trainer.feed.labels)
    for module in frozen(alone, recipe):
        module.eval()
    logits = alone.frame_logits(normalise(torch.cat([share.clips for share in shares])))
    loss_of(logits, torch.cat([share.labels for share in shares])).backward()
    pairs = [(p.grad, q.grad) for p, q in zip(trainer.net.parameters(), alone.parameters(), strict=True)]
    found["gradient difference"] = max(float((p - q).abs().max()) for p, q in pairs if p is not None and q is not None)

    trainer = trainer_of(recipe, out / "diverged", fabric=fabric)
    if fabric.global_rank == 1:
        trainer.net.fc.register_forward_hook(lambda _module, _input, output: output * float("nan"))
    found["diverged"] = _count(fabric, bool(_fault(trainer)))

    trainer = trainer_of(recipe, out / "full", fabric=fabric)
    if fabric.is_global_zero:
        (out / "full" / "checkpoint.pt.part").symlink_to("/dev/full")
    found["full disk"] = _fault(trainer)
    return found


def _apart(fabric: Fabric, value: torch.Tensor) -> float:
    mean = fabric.all_reduce(value.detach().clone(), reduce_op="mean")
    assert isinstance(mean, torch.Tensor)
    return float((mean - value.detach()).abs().max())


def _count(fabric: Fabric, yes: bool) -> int:
    total = fabric.all_reduce(torch.tensor(float(yes)), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return int(total)


def _fault(trainer: Trainer) -> str:
    try:
        finish(trainer)
    except EngineError as error:
        return str(error)
    return ""
