"""Fine-tuning a network on a packed set: everything on one device, the clips, their variation, and the network.

What its ImageNet weights know is kept where it is general: the blocks up to an eighth of the picture stay as they are,
and so do all batch norms; the rest learns at a low rate, what is new at ten times that, on mixtures of clips (mixup,
Zhang et al., ICLR 2018), and what is kept is the weights' running average. From nothing, everything learns; on drawn
motion only what is new.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from engines.networks import Network
from engines.networks.inverted import InvertedNet
from engines.training.feed import IGNORE, normalise
from tools.compare.packed import RATE, Packed
from tools.motion.clips import motion_clips

NEW = ("fc.", "tcm.")  # what no ImageNet file has
NEW_RATE = 10.0


@dataclass(frozen=True)
class Budget:
    """How long and how a network learns.

    epochs         times that each clip is seen
    learning_rate  of what has ImageNet weights; AdamW, a warm-up of a tenth of the steps and a cosine to zero
    mixup          alpha of the shares in which two clips are mixed; 0: none
    batch, frames  clips of a step, and frames of a clip
    rate_hz        frames a second, varied by a fifth
    trained_from   the block from which on ImageNet's weights learn; 0: the first behind an eighth of the picture
    """

    epochs: int = 12
    learning_rate: float = 2e-4
    mixup: float = 0.4
    batch: int = 32
    frames: int = 8
    rate_hz: float = 15.0
    decay: float = 0.05
    smoothing: float = 0.1
    dropout: float = 0.3
    trained_from: int = 0


Learns = Literal["new", "late", "all"]
"""What of a network: what no ImageNet file has; that and the later blocks; or everything, batch norms included."""


class Clips(Protocol):
    """What a network learns from."""

    budget: Budget
    device: torch.device
    steps: int  # of an epoch

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All clips once, in batches: normalised clips [B, T, 3, S, S] and their labels [B]."""
        ...

    def shares(self, count: int) -> Tensor:
        """What of each of so many clips stays when it is mixed with another, [count]."""
        ...


class Looks:
    """Varied looks at the clips `rows` of a set, drawn and made on the device of its frames."""

    def __init__(self, packed: Packed, rows: Tensor, budget: Budget, *, causal: bool, seed: int) -> None:
        self.packed, self.budget, self.causal = packed, budget, causal
        self.device = packed.frames.device
        self.rows = rows.to(self.device)
        self.steps = max(1, len(rows) // budget.batch)
        self.lengths = torch.tensor([clip.frames for clip in packed.contents.clips], device=self.device)
        self.random = torch.Generator(self.device).manual_seed(seed)
        self.numbers = np.random.default_rng(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Random numbers of a shape."""
        return low + (high - low) * torch.rand(shape, generator=self.random, device=self.device)

    def shares(self, count: int) -> Tensor:
        """What of each of so many clips stays when it is mixed with another, [count]."""
        drawn = self.numbers.beta(self.budget.mixup, self.budget.mixup, count).astype(np.float32)
        return torch.from_numpy(drawn).to(self.device)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All clips once, in batches: normalised clips [B, T, 3, S, S] and their labels [B]."""
        order = torch.randperm(len(self.rows), generator=self.random, device=self.device)
        for chosen in self.rows[order].split(self.budget.batch):
            if len(chosen) == min(self.budget.batch, len(self.rows)):
                yield self.seen(self.packed.frames[self.moments(chosen)]), self.packed.labels[chosen]

    def moments(self, chosen: Tensor) -> Tensor:
        """Which frames of the clips are seen, [B, T]: for the causal form some in a row, at about the stream's rate;
        for the clip form one of each of T parts.
        """
        count, length = self.budget.frames, self.lengths[chosen].unsqueeze(1)
        if self.causal:
            step = RATE / self.budget.rate_hz * self.uniform(len(chosen), 1, low=0.8, high=1.2)
            within = torch.arange(count, device=chosen.device) * step
            room = length - 1 - within[:, -1:]
            place = (self.uniform(len(chosen), 1) * room).clamp(min=0) + within
        else:
            place = (torch.arange(count, device=chosen.device) + self.uniform(len(chosen), count)) * length / count
        return self.packed.begins[chosen].unsqueeze(1) + torch.minimum(place.long(), length - 1)

    def seen(self, clips: Tensor) -> Tensor:
        """uint8 [B, T, 3, S, S] -> cut, mirrored, recoloured and normalised, each clip in one way."""
        count, frames, _, size, _ = clips.shape
        scale = self.uniform(count, 2, low=0.7, high=1.0)
        mirror = 1 - 2 * (self.uniform(count) < 0.5).float()
        shift = (1 - scale) * self.uniform(count, 2, low=-1.0, high=1.0)
        turned = self.uniform(count, 2, low=-0.08, high=0.08)
        rows = torch.stack([scale[:, 0] * mirror, turned[:, 0], shift[:, 0], turned[:, 1], scale[:, 1], shift[:, 1]], 1)
        grid = F.affine_grid(rows.view(count, 2, 3), [count, 3 * frames, size, size], align_corners=False)
        flat = clips.flatten(1, 2).float()
        cut = F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False).unflatten(1, (frames, 3))
        light, contrast = (self.uniform(count, 1, 1, 1, 1, low=-0.3, high=0.3) for _ in range(2))
        grey = self.uniform(count, 1, 1, 1, 1, low=0.0, high=0.5)
        grey = torch.where(self.uniform(count, 1, 1, 1, 1) < 0.1, torch.ones_like(grey), grey)
        cut = torch.lerp(cut, cut.mean(2, keepdim=True), grey)
        return normalise((cut * (1 + contrast) + 128 * (light - contrast)).clamp(0, 255))


Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Motions(Dataset[Drawn]):
    """Drawn clips of one motion each, made by `workers` processes; an epoch is one batch."""

    steps = 1

    def __init__(self, budget: Budget, size: int, device: torch.device, seed: int, workers: int) -> None:
        self.budget, self.size, self.device, self.seed, self.workers = budget, size, device, seed, workers
        self._batches: Iterator[Drawn] | None = None

    def __len__(self) -> int:
        return self.budget.epochs

    def __getitem__(self, number: int) -> Drawn:
        budget = self.budget
        clips, labels = motion_clips(
            budget.batch, budget.frames, self.size, (self.seed, number), budget.rate_hz, motions=1
        )
        return clips.numpy(), labels[
            :, -1
        ].numpy()  # tensors would go through shared memory, of which there may be little

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The next batch, without what moves too slowly to have a label."""
        if self._batches is None:
            self._batches = iter(DataLoader(self, batch_size=None, num_workers=self.workers, collate_fn=as_it_is))
        clips, labels = map(torch.from_numpy, next(self._batches))
        known = labels != IGNORE
        yield normalise(clips[known].to(self.device)), labels[known].to(self.device)

    def shares(self, count: int) -> Tensor:
        """Nothing is mixed."""
        return torch.ones(count, device=self.device)


def in_bf16(device: torch.device) -> AbstractContextManager[object]:
    """Convolutions in bfloat16, where that is fast."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def as_it_is(batch: Any) -> Any:
    """What a batch is made into: nothing else."""
    return batch


def finetune(net: Network, looks: Clips, *, learns: Learns = "late", say: Callable[[str], None] = print) -> Network:
    """The running average of a network that learned a budget's epochs, in eval mode."""
    budget, device = looks.budget, looks.device
    groups = parameter_groups(net, budget, learns)
    learned = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=device.type == "cuda")
    average, steps = deepcopy(net).eval(), 0
    total = budget.epochs * looks.steps
    values, averages = list(net.state_dict().values()), list(average.state_dict().values())
    pairs = [(a, v) for a, v in zip(averages, values, strict=True) if v.is_floating_point()]
    begun, loss = time.monotonic(), torch.zeros(())
    for epoch in range(budget.epochs):
        for clips, labels in looks.epoch():
            warm, cosine = min(1.0, (steps + 1) / (0.1 * total + 1)), 0.5 * (1 + math.cos(math.pi * steps / total))
            for group in optimizer.param_groups:
                group["lr"] = budget.learning_rate * group["factor"] * warm * cosine
            begin_step(net, learns)
            with in_bf16(device):
                loss = mixed_loss(net, clips, labels, looks)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learned, 5.0)
            optimizer.step()
            steps += 1
            share = 1 - min(0.99, (1 + steps) / (10 + steps))
            with torch.no_grad():
                torch._foreach_lerp_([a for a, _ in pairs], [v for _, v in pairs], share)
        if (epoch + 1) % max(1, budget.epochs // 3) == 0:
            speed = steps * budget.batch * budget.frames / (time.monotonic() - begun)
            say(f"epoch {epoch + 1}: loss {float(loss.detach()):.3f}, {speed:.0f} frames/s")
    return average.eval()


def mixed_loss(net: Network, clips: Tensor, labels: Tensor, looks: Clips) -> Tensor:
    """Cross entropy of the mean of the frames' logits, for mixtures of two clips each."""
    budget, classes = looks.budget, net.fc.out_features
    wanted = F.one_hot(labels, classes).float()
    if budget.mixup:
        share = looks.shares(len(clips)).view(-1, 1)
        clips = share.view(-1, 1, 1, 1, 1) * clips + (1 - share).view(-1, 1, 1, 1, 1) * clips.roll(1, 0)
        wanted = share * wanted + (1 - share) * wanted.roll(1, 0)
    logits, _ = net(clips, {})
    return F.cross_entropy(logits.float().mean(1), wanted, label_smoothing=budget.smoothing)


def parameter_groups(net: Network, budget: Budget, learns: Learns) -> list[dict[str, Any]]:
    """The optimiser's groups, by rate and decay; what stays as it is needs no gradients after this."""
    assert isinstance(net, InvertedNet)
    first = budget.trained_from or net.rows[2][0] + 1
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        new = name.startswith(NEW)
        late = name.startswith("features.") and int(name.split(".")[1]) >= first
        parameter.requires_grad_(learns == "all" or new or (late and learns == "late"))
        if parameter.requires_grad:
            rate = NEW_RATE if new or learns == "all" else 1.0
            decay = budget.decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": found, "factor": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def begin_step(net: Network, learns: Learns) -> None:
    """Training mode, but for the batch norms whose statistics are ImageNet's."""
    net.train()
    if learns != "all":
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not name.startswith(NEW):
                module.eval()
