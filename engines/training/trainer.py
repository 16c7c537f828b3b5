"""One step of training: any network, any feed of clips, on one processor or several (Lightning Fabric)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import EngineError
from ..networks import Network
from ..spec import EngineSpec, background, sha256
from .feed import IGNORE, Batch, Feed, normalise
from .initial import build, frozen, load_teacher
from .progress import writing
from .recipe import Part, Recipe


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


class Trainer:
    """One process's share of a training run: the network, its optimiser and average, and the step they have reached.

    Raises EngineError where the network of the recipe cannot be made.
    """

    def __init__(self, recipe: Recipe, feed: Feed, out: Path, fabric: Fabric) -> None:
        self.recipe, self.feed, self.out, self.fabric = recipe, feed, out, fabric
        self.net = build(recipe, feed.labels).to(fabric.device)
        self.model = fabric.setup_module(self.net)
        self.teacher: Network | None = None
        if recipe.distill_from is not None:
            self.teacher = load_teacher(recipe.distill_from, recipe, feed.labels).to(fabric.device)
        self.lengths = [feed.steps(number) for number in range(len(recipe.parts))]
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

    def gradients(self, batch: Batch) -> tuple[float, int]:
        """Fill the gradients from this process's share of a batch; the mean loss of all processes and their clips.

        Raises EngineError where the loss is no number: all processes do.
        """
        self.net.train(len(batch.clips) > 0)
        for module in frozen(self.net, self.recipe):
            module.eval()
        rank = self.fabric.global_rank
        torch.manual_seed(hash((self.recipe.seed, 0, self.step, rank)))  # dropout: resumed runs draw alike
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        shares = torch.stack([loss.detach(), loss.new_tensor(len(batch.labels))])
        mean, clips = cast(Tensor, self.fabric.all_reduce(shares, reduce_op="mean")).tolist()
        if not math.isfinite(mean):
            raise self.diverged(f"the loss is {mean}")
        return mean, round(clips * self.fabric.world_size)

    def loss(self, batch: Batch) -> Tensor:
        """Of this process's share of a batch; zero where it has no clip or no label, for the other processes wait."""
        recipe, count = self.recipe, len(batch.clips)
        clips, labels = normalise(batch.clips.to(self.fabric.device)), batch.labels.to(self.fabric.device)
        logits, _ = self.model(clips if count else clips.new_zeros(1, *clips.shape[1:]), {})
        loss = loss_of(logits, labels) if (batch.labels != IGNORE).any() else 0 * logits.sum()
        if self.teacher is None or not count:
            return loss
        with torch.no_grad(), self.fabric.autocast():
            word = self.teacher.frame_logits(clips[:, -recipe.frames :]).float().mean(1)
        share = recipe.distill_weight
        return (1 - share) * loss + share * divergence(logits, word, recipe.frames, recipe.temperature)

    def diverged(self, what: str) -> EngineError:
        """The error of a run whose numbers are none."""
        return EngineError(
            f"{what} at step {self.step + 1}: take a smaller learning_rate or clip_norm; what {self.out} holds is of "
            "before"
        )

    def update(self) -> float:
        """Take one step along the gradients; the learning rate. Raises EngineError where they are no numbers."""
        number, step = self.part_at(self.step)
        part, length = self.recipe.parts[number], self.lengths[number]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm or math.inf)
        if not norm.isfinite():
            raise self.diverged(f"the length of the gradient is {norm.item()}")
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
        """Write the checkpoint; weights.pt, the averaged network's; and its sidecar weights.json: all of them anew, or
        none. Raises EngineError where the disk is full.
        """
        content = {
            "recipe": self.recipe.model_dump(mode="json"),
            "labels": list(self.feed.labels),
            "step": self.step,
            "network": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        files = [self.out / name for name in ("checkpoint.pt", "weights.pt", "weights.json")]
        fresh = [path.with_name(path.name + ".part") for path in files]
        try:
            with writing(self.out):
                torch.save(content, fresh[0])
                torch.save(
                    {key: value.contiguous().cpu() for key, value in self.averaged.state_dict().items()}, fresh[1]
                )
                spec = spec_of(self.recipe, self.feed.labels, "weights", {"weights.pt": sha256(fresh[1])})
                fresh[2].write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
                for new, old in zip(fresh, files, strict=True):
                    new.replace(old)
        finally:
            for path in fresh:
                path.unlink(missing_ok=True)

    def load(self) -> None:
        """Continue from the checkpoint. Raises EngineError where there is none, where it is damaged, and where it
        belongs to another run; parts may have been added to its recipe.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            raise EngineError(f"cannot resume: there is no {path}; start without --resume")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            different = self._differences(content["recipe"], content["labels"])
            if not different:
                self.net.load_state_dict(content["network"])
                self.average.load_state_dict(content["average"])
                self.optimizer.load_state_dict(content["optimizer"])
                self.step = content["step"]
        except Exception as error:  # torch raises half a dozen types for what is not its file, and we for another's
            raise EngineError(
                f"cannot resume: {path} is damaged, or nothing that this tool wrote ({type(error).__name__}); begin "
                f"anew in another --out, from the newest weights with --init {self.out / 'weights.pt'}"
            ) from error
        if different:
            raise EngineError(
                f"cannot resume from {path}: it was written with other {', '.join(different)}; make the recipe as it "
                "was, or give another --out"
            )

    def _differences(self, recipe: dict[str, Any], labels: list[str]) -> list[str]:
        """What a checkpoint's run has that differs from this one's."""
        ours = self.recipe.model_dump(mode="json")
        ours["parts"] = ours["parts"][: len(recipe["parts"])]
        different = [key for key in ours | recipe if ours.get(key) != recipe.get(key)]
        return different + ["labels"] * (labels != list(self.feed.labels))


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
        events=background(labels),
    )
