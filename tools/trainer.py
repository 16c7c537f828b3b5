"""The training loop: any network, any feed of clips, on one processor or several (Lightning Fabric)."""

from __future__ import annotations

import ctypes
import math
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engines.networks import Network
from engines.spec import EngineSpec, sha256
from tools.clips import Batch
from tools.errors import ToolError
from tools.feeds import Feed, normalise
from tools.initial import build, frozen
from tools.motion_paths import IGNORE
from tools.progress import Report
from tools.recipe import Part, Recipe


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits [B, T, K]: for labels [B] of their mean over the frames, for labels [B, T] of each."""
    if labels.ndim == 1:
        return F.cross_entropy(logits.mean(1), labels)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def divergence(logits: Tensor, word: Tensor, frames: int, temperature: float) -> Tensor:
    """How far the student's answer is from its teacher's `word` [B, K] (Hinton et al., "Distilling the Knowledge in a
    Neural Network", 2015): the Kullback-Leibler divergence of softened probabilities, times the temperature's square.

    The student's answer to a clip of T frames is the mean of its logits [B, T, K], to a longer one the last frame's.
    """
    own = logits.mean(1) if logits.shape[1] == frames else logits[:, -1]
    ours, theirs = (F.log_softmax(x / temperature, dim=1) for x in (own, word))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def learning_rate(part: Part, steps: int, warmup_steps: int, step: int) -> float:
    """At a step of a part of so many steps: a linear warm-up, then a tenth after each drop, or a cosine to zero."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    if part.drops:
        each = steps / part.epochs if part.epochs else 1
        return part.learning_rate * warm * 0.1 ** sum(step >= drop * each for drop in part.drops)
    return part.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def parameter_groups(net: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """The optimiser's groups: matrices and kernels decay, biases and norms do not; `rate` is the papers' factor."""
    norms = {id(p) for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        rate, decay = 1.0, recipe.weight_decay
        if id(parameter) in norms:
            decay = 0.0
        elif name == "fc.weight":
            rate = recipe.head_rate
        elif parameter.ndim == 1:
            rate, decay = recipe.head_bias_rate if name == "fc.bias" else recipe.bias_rate, 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": found, "rate": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def write(content: Any, path: Path) -> None:
    """Save to a new file, then put it in the old one's place, so that no reader meets half a file.

    Raises ToolError where that fails; the old file stays.
    """
    fresh = path.with_name(path.name + ".part")
    try:
        torch.save(content, fresh)
        fresh.replace(path)
    except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
        fresh.unlink(missing_ok=True)
        kept = "; the one of before is still there" if path.exists() else ""
        raise ToolError(f"cannot write {path} (is the disk full?): {str(error).splitlines()[0]}{kept}") from error


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote there, tensors and plain values only. Raises ToolError where it is not that."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ToolError(f"cannot load {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ToolError(f"cannot load {path}: it holds a {type(content).__name__} instead of a dict")
    return content


class Trainer:
    """One process's share of a training run: the network, its optimiser and average, and the step they have reached."""

    def __init__(self, recipe: Recipe, feed: Feed, out: Path, fabric: Fabric, teacher: Network | None = None) -> None:
        self.recipe, self.feed, self.out, self.fabric = recipe, feed, out, fabric
        self.net = build(recipe, feed.labels).to(fabric.device)
        self.model = fabric.setup_module(self.net)
        self.teacher = None if teacher is None else teacher.to(fabric.device)
        self.lengths = [feed.steps(part) for part in recipe.parts]
        self.steps = sum(self.lengths)
        self.step = 0
        self.begin_part()

    def begin_part(self) -> None:
        """A fresh average of the network and a fresh optimiser."""
        recipe, groups = self.recipe, parameter_groups(self.net, self.recipe)
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups)
            if recipe.optimizer == "adamw"
            else torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)
        )

    def part_at(self, step: int) -> tuple[int, int]:
        """The number of the part that a step belongs to, and the step's number within it."""
        for number, length in enumerate(self.lengths):
            if step < length:
                return number, step
            step -= length
        raise IndexError("the run has fewer steps")

    @property
    def averaged(self) -> Network:
        """The network with the averaged weights, which is the one to evaluate and to keep."""
        return self.average.module  # type: ignore[return-value]

    def gradients(self, batch: Batch) -> float:
        """Fill the gradients from this process's share of a batch; the mean loss of all processes.

        Raises ToolError where the loss is no number: all processes do.
        """
        recipe = self.recipe
        self.net.train()
        for module in frozen(self.net, recipe):
            module.eval()
        torch.manual_seed(
            hash((recipe.seed, 0, self.step, self.fabric.global_rank))
        )  # dropout: resumed runs draw alike
        clips, labels = normalise(batch.clips.to(self.fabric.device)), batch.labels.to(self.fabric.device)
        if not len(clips):  # no video of this share could be used, and the other processes wait for an answer
            clips = clips.new_zeros(1, *clips.shape[1:])
        logits, _ = self.model(clips, {})
        loss = loss_of(logits, labels) if len(labels) else 0 * logits.sum()
        if self.teacher is not None:
            with torch.no_grad():
                word = self.teacher.frame_logits(clips[:, -recipe.frames :]).mean(1)
            share = recipe.distill_weight
            loss = (1 - share) * loss + share * divergence(logits, word, recipe.frames, recipe.temperature)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        reduced = self.fabric.all_reduce(loss.detach(), reduce_op="mean")
        assert isinstance(reduced, Tensor)
        mean = reduced.item()
        if not math.isfinite(mean):
            raise ToolError(
                f"the loss is {mean} at step {self.step + 1}: take a smaller learning_rate or clip_norm; "
                f"what {self.out} holds is of before"
            )
        return mean

    def update(self) -> float:
        """Take one step along the gradients; the learning rate."""
        number, step = self.part_at(self.step)
        part, length = self.recipe.parts[number], self.lengths[number]
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        rate = learning_rate(part, length, self.recipe.warmup_steps, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.step()
        self.average.update_parameters(self.net)
        self.step += 1
        if step + 1 == length:  # what comes next, a part or the evaluation at the end, goes on with the average
            self.net.load_state_dict(self.average.module.state_dict())
            self.begin_part()
        return rate

    def save(self) -> None:
        """Write the checkpoint; weights.pt, the averaged network's; and its sidecar weights.json."""
        content = {
            "recipe": self.recipe.model_dump(mode="json"),
            "labels": list(self.feed.labels),
            "step": self.step,
            "network": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write(content, self.out / "checkpoint.pt")
        path = self.out / "weights.pt"
        write({name: value.contiguous().cpu() for name, value in self.averaged.state_dict().items()}, path)
        sidecar = msgspec.json.encode(spec_of(self.recipe, self.feed.labels, "weights", {path.name: sha256(path)}))
        path.with_suffix(".json").write_bytes(msgspec.json.format(sidecar, indent=1) + b"\n")

    def load(self) -> None:
        """Continue from the checkpoint. Raises ToolError where there is none or it belongs to another run; parts may
        have been added to its recipe.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            raise ToolError(f"cannot resume: there is no {path}; start without --resume")
        content = read(path)
        ours, theirs = self.recipe.model_dump(mode="json"), content.get("recipe", {})
        ours["parts"] = ours["parts"][: len(theirs.get("parts", ()))]
        if ours != theirs or content["labels"] != list(self.feed.labels):
            raise ToolError(
                f"cannot resume from {path}: it was written with another recipe or data; give another --out"
            )
        self.net.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]


def spec_of(recipe: Recipe, labels: Sequence[str], name: str, files: dict[str, str]) -> EngineSpec:
    """What a recipe's trained network is, for its sidecar."""
    return EngineSpec(
        name=name,
        labels=tuple(labels),
        height=recipe.size,
        width=recipe.size,
        rate_hz=recipe.fps,
        frames=recipe.frames,
        mode="stream" if recipe.causal else "window",
        fit=recipe.fit,
        network=recipe.network,
        backbone=recipe.backbone,
        channel_width=recipe.width,
        options=recipe.options,
        states=(),
        files=files,
    )


def keep_memory() -> None:
    """Let glibc keep freed memory: fetching the maps of each step from the system anew doubles the time of a step."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, 2**31 - 1)


class Stop:
    """Whether the run is to end early: asked with SIGTERM or Ctrl-C, or by `ask`. All processes get the same answer."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._asked = False

    def __enter__(self) -> Stop:
        self._before = [(number, signal.signal(number, self._take)) for number in (signal.SIGTERM, signal.SIGINT)]
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def ask(self) -> None:
        """From the next step on the answer is yes."""
        self._asked = True

    def __bool__(self) -> bool:
        parent = parent_process()
        orphan = parent is not None and not parent.is_alive()
        return self._fabric.strategy.reduce_boolean_decision(self._asked or orphan, all=False)


def run(trainer: Trainer) -> bool:
    """Train to the end; the first process reports and saves. False where it was asked to stop, and has saved.

    Raises ToolError where the loss is no number or a checkpoint cannot be written.
    """
    keep_memory()
    first = trainer.fabric.is_global_zero
    report = Report(trainer.out, trainer.step, trainer.steps) if first else None
    failure: ToolError | None = None
    with Stop(trainer.fabric) as stop, report or nullcontext():
        for batch in _batches(trainer):
            loss = trainer.gradients(batch)
            rate = trainer.update()
            if report is not None:
                report.step(trainer.step, loss, rate, len(batch.labels) * trainer.fabric.world_size, batch.faults)
                try:
                    _checkpoint(trainer, report)
                except ToolError as error:
                    failure = error
                    stop.ask()
            if stop:
                break
        if failure is not None:
            raise failure
        if report is not None and trainer.step < trainer.steps:
            trainer.save()
            report.say(f"stopped after step {trainer.step} of {trainer.steps}; --resume goes on from here")
    return trainer.step == trainer.steps


def _batches(trainer: Trainer) -> Iterator[Batch]:
    """The process's shares of all batches from the trainer's step on."""
    while trainer.step < trainer.steps:
        number, begin = trainer.part_at(trainer.step)
        part, before = trainer.recipe.parts[number], trainer.step - begin
        yield from trainer.feed.batches(part, begin, before, trainer.fabric.global_rank)


def _checkpoint(trainer: Trainer, report: Report) -> None:
    """Evaluate and save where it is time to."""
    last = trainer.step == trainer.steps
    if last or trainer.step % trainer.recipe.checkpoint_steps == 0:
        held = trainer.feed.held_out(trainer.averaged, last=last)
        report.held_out(trainer.step, held.accuracy, str(held))
        trainer.save()
