"""Train a network on synthetic motion clips.

    python -m tools.train configs/train/default.yaml [--out runs/default] [--resume]

A plain loop: clips made on the fly, cross entropy at every labelled frame of the causal network, AdamW with a warm-up
and a cosine, an exponential average of the weights. Several processes of one thread each share a batch: they make their
own clips and average their gradients through shared memory. On busy cores that is many times faster than threads, which
wait for each other at every operation.

In the output folder: `checkpoint.pt` (all that `--resume` needs), `weights.pt` (the best averaged state dict so far,
plain float32) and `weights.json` (how to build its network, its labels, its held-out accuracy).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engines.networks import Network
from tools.motion_clips import motion_clips
from tools.motion_paths import IGNORE, LABELS
from tools.recipe import Part, Recipe, TrainError, build, load, read_recipe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB


def normalise(clips: Tensor) -> Tensor:
    """uint8 RGB [B, T, 3, H, W] -> float, ImageNet-normalised."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return (clips.float() - mean) / std


# ------------------------------------------------------------------------------------------------------ evaluation


@dataclass(frozen=True)
class Report:
    """Held-out results. `confusion` [K, K] counts frames: true label by row, given label by column.

    frame_accuracy  over `frames` labelled frames from the T-th of a clip on: what a running stream gives
    clip_accuracy   at the last frame of `clips` clips of one motion
    """

    frame_accuracy: float
    frames: int
    clip_accuracy: float
    clips: int
    confusion: Tensor

    def __str__(self) -> str:
        """Two figures and the confusion matrix in percent of each true label."""
        lines = [f"frames {self.frame_accuracy:.1%} of {self.frames}, clips {self.clip_accuracy:.1%} of {self.clips}"]
        shares = 100 * self.confusion / self.confusion.sum(1, keepdim=True).clamp(min=1)
        for label, row in zip(LABELS, shares.tolist(), strict=True):
            lines.append(f"{label:>24} " + " ".join(f"{share:5.1f}" for share in row))
        return "\n".join(lines)


@torch.no_grad()
def evaluate(net: Network, recipe: Recipe, clips: int) -> Report:
    """Results on about so many clips that training never sees: half of one motion, half of up to three, all labels."""
    net.eval()
    classes, frames = len(LABELS), recipe.parts[-1].clip_frames
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    right = asked = 0
    rounds = math.ceil(clips / (4 * 2 * classes))
    for index, motions, only in product(range(rounds), (1, 3), range(classes)):
        seed = (recipe.seed, 1, index, motions, only)
        video, labels = motion_clips(4, frames, recipe.size, seed, recipe.fps, motions=motions, only=only)
        given = net.frame_logits(normalise(video)).argmax(2)
        steady_given, steady = given[:, recipe.frames - 1 :], labels[:, recipe.frames - 1 :]
        known = steady != IGNORE
        pairs = steady[known] * classes + steady_given[known]
        confusion += torch.bincount(pairs, minlength=classes**2).view(classes, classes)
        if motions == 1:
            known = labels[:, -1] != IGNORE
            right += int((given[:, -1] == labels[:, -1])[known].sum())
            asked += int(known.sum())
    net.train()
    counted = int(confusion.sum())
    return Report(int(confusion.trace()) / max(1, counted), counted, right / max(1, asked), asked, confusion)


# -------------------------------------------------------------------------------------------------------- the loop


def learning_rate(part: Part, warmup_steps: int, step: int) -> float:
    """At a step of a part: linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    return part.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / part.steps))


def _write(content: Any, path: Path) -> None:
    """Save to a new file, then put it in the old one's place, so that no reader meets half a file."""
    fresh = path.with_name(path.name + ".part")
    torch.save(content, fresh)
    fresh.replace(path)


class Trainer:
    """One process's share of a training run: the network, its optimizer and average, and the step they have reached."""

    def __init__(self, recipe: Recipe, out: Path, rank: int = 0) -> None:
        self.recipe, self.out, self.rank = recipe, out, rank
        self.net = build(recipe)
        self.step = 0
        self.best = -1.0
        self.begin_part()

    def begin_part(self) -> None:
        """A fresh average of the network and a fresh optimizer."""
        recipe = self.recipe
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        rest = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups)

    @property
    def averaged(self) -> Network:
        """The network with the averaged weights, which is the one to evaluate and to keep."""
        return self.average.module  # type: ignore[return-value]

    def gradients(self) -> float:
        """Fill the gradients from this process's share of the step's batch; the loss."""
        recipe = self.recipe
        part, _ = recipe.part_at(self.step)
        share = part.batch // recipe.processes
        seed = (recipe.seed, 0, self.step, self.rank)
        video, labels = motion_clips(share, part.clip_frames, part.size, seed, recipe.fps, whole=part.whole)
        torch.manual_seed(hash(seed))  # dropout: a resumed run draws what an uninterrupted one draws
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = self.net.frame_logits(normalise(video))
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.item()

    def update(self) -> None:
        """Take one step along the gradients."""
        part, step = self.recipe.part_at(self.step)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(part, self.recipe.warmup_steps, step)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        self.step += 1
        if step + 1 == part.steps:  # what comes next, a part or the evaluation at the end, goes on with the average
            self.net.load_state_dict(self.average.module.state_dict())
            self.begin_part()

    def save(self) -> None:
        """Write the checkpoint."""
        content = {
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "best": self.best,
            "network": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        _write(content, self.out / "checkpoint.pt")

    def load(self) -> None:
        """Continue from the checkpoint. Raises TrainError where there is none or it belongs to another recipe."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            raise TrainError(f"cannot resume: there is no {path}; start without --resume")
        content = load(path)
        if content["recipe"] != self.recipe.model_dump(mode="json"):
            raise TrainError(f"cannot resume from {path}: it was written with another recipe; give another --out")
        self.net.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.best = content["step"], content["best"]

    def keep_if_best(self, report: Report) -> None:
        """Write weights.pt and weights.json where the averaged network is the best so far."""
        if report.frame_accuracy < self.best:
            return
        self.best = report.frame_accuracy
        weights = {name: value.contiguous() for name, value in self.averaged.state_dict().items()}
        _write(weights, self.out / "weights.pt")
        build_keys = {"network", "backbone", "width", "frames", "size", "fps"}
        facts = self.recipe.model_dump(include=build_keys) | {
            "causal": True,
            "labels": LABELS,
            "steps": self.step,
            "held_out_frames": [report.frame_accuracy, report.frames],
            "held_out_clips": [report.clip_accuracy, report.clips],
        }
        (self.out / "weights.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


class _Meeting:
    """Where the processes of a run average their gradients: one row of shared memory each."""

    def __init__(self, recipe: Recipe) -> None:
        size = sum(p.numel() for p in build(recipe).parameters())
        self.rows = torch.zeros(recipe.processes, size).share_memory_()
        self.barrier = get_context("spawn").Barrier(recipe.processes)

    def average(self, net: nn.Module, rank: int) -> None:
        """Replace the gradients of `net` by their mean over all processes."""
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        self.rows[rank] = torch.cat([g.flatten() for g in gradients])
        self.barrier.wait()
        mean = self.rows.mean(0)
        self.barrier.wait()
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _keep_memory() -> None:
    """Let glibc keep freed memory: fetching the maps of each step from the system anew doubles the time of a step."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, 2**31 - 1)


def _run(rank: int, recipe: Recipe, out: Path, resume: bool, meeting: _Meeting) -> None:
    """One process of a run; the first one reports and saves."""
    torch.set_num_threads(1)
    _keep_memory()
    trainer = Trainer(recipe, out, rank)
    if resume:
        trainer.load()
    parent = parent_process()
    clock, clips, losses = time.monotonic(), 0, []
    while trainer.step < recipe.steps:
        if parent is not None and not parent.is_alive():
            meeting.barrier.abort()  # the others do not wait for this one
            raise SystemExit("the process that started this one has ended")
        clips += recipe.part_at(trainer.step)[0].batch
        losses.append(trainer.gradients())
        meeting.average(trainer.net, rank)
        trainer.update()
        if rank != 0:
            continue
        if trainer.step % 25 == 0:
            loss, speed = sum(losses) / len(losses), clips / (time.monotonic() - clock)
            print(f"step {trainer.step}/{recipe.steps}  loss {loss:.3f}  {speed:.1f} clips/s", flush=True)
            clock, clips, losses = time.monotonic(), 0, []
        last = trainer.step == recipe.steps
        if last or trainer.step % recipe.checkpoint_steps == 0:
            report = evaluate(trainer.averaged, recipe, recipe.held_out_at_end if last else recipe.held_out)
            print(f"step {trainer.step}: held out, {report}", flush=True)
            trainer.keep_if_best(report)
            trainer.save()


def train(recipe: Recipe, out: Path, resume: bool = False) -> None:
    """Train to the end of the recipe, in its number of processes. Raises TrainError for what cannot be used."""
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        Trainer(recipe, out).load()  # for its errors: those of the processes come with a traceback
    spawn(_run, (recipe, out, resume, _Meeting(recipe)), nprocs=recipe.processes)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description="Train a network on synthetic clips.")
    parser.add_argument("recipe", type=Path, help="a YAML file, see configs/train")
    parser.add_argument("--out", type=Path, help="folder for the results (default: runs/NAME of the recipe)")
    parser.add_argument("--resume", action="store_true", help="continue from the folder's checkpoint")
    options = parser.parse_args(arguments)
    try:
        recipe = read_recipe(options.recipe)
        train(recipe, options.out or Path("runs") / options.recipe.stem, options.resume)
    except TrainError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
