"""One training of a network on a packed set, and how the result is asked: see networks.py."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from engines.networks import Network, build_network
from engines.networks.checkpoints import read_checkpoint
from engines.networks.inverted import InvertedNet
from engines.networks.tcm import LightTCM
from engines.networks.tsm import FIRST_READ
from engines.training.feed import normalise
from engines.training.head import MOMENTS, Layer, Vectors, at_shares, layer_of
from tools.compare.finetune import Budget, Learns, Looks, Motions, finetune, in_bf16
from tools.compare.packed import RATE, Packed, read_packed
from tools.compare.shots import draw, shot
from tools.errors import ToolError
from tools.motion.paths import LABELS
from tools.train.folds import fold_of

WINDOW = 16  # frames that statistics are of
ASKED_AT_ONCE = 8  # clips
DECAYS = (0.3, 1.0, 3.0)  # of the last layer that is solved for

DRAWN = Budget(epochs=400, learning_rate=1e-4, mixup=0.0)
"""Of drawn motion: an epoch is a batch."""


@dataclass(frozen=True)
class Run:
    """One training. `start` is a file of ImageNet weights; or, with the backbone of `like`, `nothing`, or `drawn`: its
    ImageNet weights, and the TCM layer has learned drawn motion. `trial` is the number of a budget that is tried on
    held-out clips, -1 for a run on the whole training half. `shots`: the network never learns five actions, which are
    then learned from so many clips each; the seed draws them.
    """

    network: str
    form: str
    start: str
    like: str
    split: int
    seed: int
    trial: int = -1
    shots: int = 0

    @property
    def name(self) -> str:
        """Of its files."""
        kind = f"-trial{self.trial}" if self.trial >= 0 else f"-shots{self.shots}" if self.shots else ""
        return f"{self.network}-{self.form}-{Path(self.start).stem}-{self.split}-{self.seed}{kind}"


class Row(msgspec.Struct, frozen=True):
    """What a run found: top-1 after the shares of a clip (of a whole clip alone in the clip form) by each way to ask,
    `own`, or `solved` and `both` with a weight decay, or of a few clips as `shots`; the budget; seconds of training and
    of all.
    """

    name: str
    network: str
    backbone: str
    form: str
    start: str
    split: int
    seed: int
    trial: int
    shots: int
    top1: dict[str, tuple[float, ...]]
    budget: dict[str, Any]
    train_s: float
    all_s: float


def shaped(run: Run, backbone: str, classes: int, budget: Budget, pooling: str) -> Network:
    """The run's network with random weights: as it learns (`pooling` mean), or as its last layer is solved for
    (motion).
    """
    plain = build_network("tsn", backbone, budget.frames, classes, causal=True)
    assert isinstance(plain, InvertedNet)
    options: dict[str, Any] = {"dropout": budget.dropout, "pooling": pooling}
    if run.network != "tsn" and run.start != "nothing":
        options["shift_from"] = budget.trained_from or plain.rows[2][0] + 1
    frames = budget.frames if run.form == "clip" or pooling == "mean" else WINDOW
    if run.network == "tcm" and frames != budget.frames:
        options["span"] = budget.frames
    net = build_network(run.network, backbone, frames, classes, run.form == "causal", **options)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def network_of(run: Run, classes: int, budget: Budget, pooling: str) -> Network:
    """The run's network with the weights that it begins with."""
    checkpoint = read_checkpoint(run.like, "tsn", budget.frames, classes=classes)
    net = shaped(run, checkpoint.backbone, classes, budget, pooling)
    if isinstance(net, LightTCM):
        net.tcm.begin_softly()
    if run.start != "nothing":
        net.load_state_dict(checkpoint.parameters, strict=False)
    return net


def learn_motion(net: Network, like: str, size: int, device: torch.device, threads: int) -> None:
    """Let a network's TCM layer learn drawn motion, while all that has ImageNet weights stays as it is."""
    run = Run("tcm", "causal", like, like, 1, 0)
    teaching = network_of(run, len(LABELS), DRAWN, "mean").to(device)
    motions = Motions(DRAWN, size, device, 0, threads)
    learned = finetune(teaching, motions, learns="new", say=lambda text: print("drawn motion:", text, flush=True))
    moved = {name: value for name, value in learned.state_dict().items() if name.startswith("tcm.")}
    net.load_state_dict(moved, strict=False)


@torch.no_grad()
def ask(net: Network, packed: Packed, rows: Tensor, budget: Budget) -> Tensor:
    """What the last layer reads of the clips `rows`: in the causal form at the moments and after the shares of a clip,
    [N, 2 + 5, D], see `at_shares`; in the clip form once, [N, 1, D]. Half precision.
    """
    found = []
    device = packed.frames.device
    lengths = torch.tensor([clip.frames for clip in packed.contents.clips])
    step = round(RATE / budget.rate_hz)
    for some in rows.split(ASKED_AT_ONCE):
        length = lengths[some].unsqueeze(1)
        if net.causal:
            counts = -(-length.flatten() // step)
            place = torch.minimum(torch.arange(int(counts.max())) * step, length - 1)
        else:
            place = ((torch.arange(budget.frames) + 0.5) * length / budget.frames).long()
        clips = packed.frames[(packed.begins.cpu()[some].unsqueeze(1) + place).to(device)]
        with in_bf16(device):
            vectors = net.vectors(normalise(clips), {})[0].float()
        if net.causal:
            found += [at_shares(of_clip[:count]) for of_clip, count in zip(vectors, counts.tolist(), strict=True)]
        else:
            found += list(vectors[:, -1:].half())
    return torch.stack(found)


def answers(net: Network, own: Layer, views: Vectors, train: Tensor, test: Tensor) -> dict[str, tuple[float, ...]]:
    """Top-1 on the clips `test` by each way to ask, with last layers that are solved for on the clips `train`.

    The network's own layer reads the last convolution's means over the last frames, which are among the statistics.
    """
    assert isinstance(net, InvertedNet)
    values = views.values
    asked = (values[test][:, MOMENTS:] if values.shape[1] > MOMENTS else values[test]).float()
    last = own.weight.shape[1]
    seen = last + sum(channels for _, channels in net.rows[FIRST_READ:])
    labels = views.labels[test].unsqueeze(1)

    def right(logits: Tensor) -> tuple[float, ...]:
        return tuple((logits.argmax(2) == labels).float().mean(0).tolist())

    first = own(asked[..., seen - last : seen])
    found = {"own": right(first)}
    moments = replace(views, values=values[:, :MOMENTS])
    for decay in DECAYS:
        solved = layer_of([moments], train, own.weight.shape[0], decay)(asked)
        found[f"solved {decay:g}"] = right(solved)
        found[f"both {decay:g}"] = right(solved / solved.std() + first / first.std())
    return found


def halves(run: Run, packed: Packed) -> tuple[Tensor, Tensor]:
    """The numbers of the clips that a run learns from, and of those that it asks about. Raises ToolError."""
    train, test = packed.half(run.split, trains=True), packed.half(run.split, trains=False)
    if run.trial < 0:
        return train, test
    held = torch.tensor([fold_of(packed.contents.clips[n].source) == run.split - 1 for n in train.tolist()])
    if held.all() or not held.any():
        raise ToolError(f"split {run.split} has too few videos to hold some out: give --trials 0")
    return train[~held], train[held]


def learned(run: Run, packed: Packed, train: Tensor, classes: int, budget: Budget) -> Network:
    """The run's network, having learned the clips `train`, which have so many labels."""
    device = packed.frames.device
    torch.manual_seed(run.seed)
    net = network_of(run, classes, budget, "mean").to(device)
    if run.start == "drawn":
        learn_motion(net, run.like, packed.contents.size, device, WORKERS[0])
    looks = Looks(packed, train, budget, causal=run.form == "causal", seed=run.seed)
    learns: Learns = "all" if run.start == "nothing" else "late"
    return finetune(net, looks, learns=learns, say=lambda text: print(run.name, text, flush=True))


def read_vectors(run: Run, net: Network, packed: Packed, rows: Tensor, budget: Budget) -> tuple[Network, Vectors]:
    """The trained network with motion pooling, and what its last layer reads of the clips `rows`."""
    state = {name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}
    pooled = network_of(run, net.fc.out_features, budget, "motion").eval().to(packed.frames.device)
    pooled.load_state_dict(state, strict=False)
    found = ask(pooled, packed, rows, budget)
    values = found.new_zeros(len(packed.labels), *found.shape[1:])
    values[rows.to(found.device)] = found
    return pooled, Vectors(values, packed.labels, (), torch.as_tensor(pooled.emphasis).to(found.device))


def do(run: Run, budget: Budget, out: Path) -> Row:
    """Train and ask."""
    packed, begun = SET[0], time.monotonic()
    train, test = halves(run, packed)
    if run.shots:
        net, train_s, top1 = few(run, packed, train, test, budget)
    else:
        net = learned(run, packed, train, len(packed.contents.labels), budget)
        train_s = time.monotonic() - begun
        if run.trial < 0:
            state, part = net.state_dict(), out / f"{run.name}.part"
            torch.save({n: (v.half() if v.is_floating_point() else v).cpu() for n, v in state.items()}, part)
            part.replace(out / f"{run.name}.pt")
        pooled, views = read_vectors(run, net, packed, torch.cat([train, test]), budget)
        own, device = Layer(net.fc.weight.detach(), net.fc.bias.detach()), packed.frames.device
        top1 = answers(pooled, own, views, train.to(device), test.to(device))
    return Row(
        name=run.name, network=run.network, backbone=net.backbone, form=run.form, start=Path(run.start).stem,
        split=run.split, seed=run.seed, trial=run.trial, shots=run.shots, top1=top1, budget=vars(budget),
        train_s=train_s, all_s=time.monotonic() - begun,
    )  # fmt: skip


def few(
    run: Run, packed: Packed, train: Tensor, test: Tensor, budget: Budget
) -> tuple[Network, float, dict[str, tuple[float, ...]]]:
    """A network that learned the actions that are not drawn, the seconds of that, and what a few clips then teach."""
    begun, labels = time.monotonic(), packed.labels.cpu()
    _, _, chosen = draw(labels, train, test, run.shots, run.seed)
    others = [label for label in range(len(packed.contents.labels)) if label not in chosen]
    number = torch.full((len(packed.contents.labels),), -1)
    number[others] = torch.arange(len(others))
    renumbered = replace(packed, labels=number[labels].to(packed.labels.device))
    net = learned(run, renumbered, train[number[labels[train]] >= 0], len(others), budget)
    train_s = time.monotonic() - begun
    _, views = read_vectors(run, net, packed, torch.cat([train, test]), budget)
    emphasis = torch.as_tensor(views.emphasis).cpu()
    view = Vectors(views.values[:, :MOMENTS].cpu(), labels, (), emphasis)
    found = shot(view, train, test, run.shots, run.seed)
    return net, train_s, {"shots": (found,)}


SET: list[Packed] = []
"""The set of a process that trains: read once."""
WORKERS = [0]
"""Its processes that draw motion."""


def begin(data: Path, device: str, threads: int) -> None:
    """What a process that trains does first."""
    torch.set_num_threads(threads)
    WORKERS[0] = threads - 1
    packed = read_packed(data)
    SET[:] = [
        replace(
            packed, frames=packed.frames.to(device), begins=packed.begins.to(device), labels=packed.labels.to(device)
        )
    ]
