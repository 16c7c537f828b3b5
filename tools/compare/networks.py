"""TSN, TSM and TCM on J-HMDB, trained at one budget from ImageNet's weights, in the causal form and in the clip form.

    python -m tools.compare networks --data set --init efficientnet-lite0.pth mobilenet_v2.pt --device cuda

--data is what `python -m tools.compare pack` wrote. What the training is like is chosen first, on a fifth of the
training halves, by source video; the test halves decide nothing. Then each network learns on the training half of each
split, and is asked in three ways: by its own last layer, on the mean of what it has seen (`own`), by a last layer that
is solved for on the statistics and the motion of the last frames, as `python -m tools.compare jhmdb` does it on
features that were never tuned (`solved`), and by the sum of the two, which is a last layer, too (`both`).

A line of rows.jsonl in --out is a run; those that are there are not done again. Weights are kept beside it, in half
precision.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from engines import EngineError
from engines.networks import Network, build_network
from engines.networks.checkpoints import read_checkpoint
from engines.networks.inverted import InvertedNet
from engines.networks.tcm import LightTCM
from engines.networks.tsm import FIRST_READ
from engines.training.feed import normalise
from engines.training.head import DECAYS, MOMENTS, Layer, Vectors, at_shares, layer_of
from tools.compare.finetune import Budget, Learns, Looks, Motions, finetune
from tools.compare.packed import RATE, Packed, read_packed
from tools.errors import ToolError
from tools.motion.paths import LABELS
from tools.train.folds import fold_of

NETWORKS = ("tsn", "tsm", "tcm")
FORMS = ("causal", "clip")
SPLITS = (1, 2, 3)
WINDOW = 16  # frames that statistics are of
ASKED_AT_ONCE = 8  # clips

TRIALS = (
    Budget(),
    Budget(trained_from=11),
    Budget(epochs=24, learning_rate=4e-4),
    Budget(epochs=6, learning_rate=1e-4),
    Budget(epochs=24, learning_rate=1e-4, frames=12),
)
"""What is tried on held-out clips, the first one first."""
DRAWN = Budget(epochs=400, learning_rate=1e-3, mixup=0.0)
"""Of drawn motion: an epoch is a batch."""


@dataclass(frozen=True)
class Run:
    """One training. `start` is a file of ImageNet weights; or, with the backbone of `like`, `nothing`, or `drawn`: its
    ImageNet weights, and the TCM layer has learned drawn motion. `trial` is the number of a budget that is tried on
    held-out clips, -1 for a run on the whole training half.
    """

    network: str
    form: str
    start: str
    like: str
    split: int
    seed: int
    trial: int = -1

    @property
    def name(self) -> str:
        """Of its files."""
        tried = f"-trial{self.trial}" if self.trial >= 0 else ""
        return f"{self.network}-{self.form}-{Path(self.start).stem}-{self.split}-{self.seed}{tried}"


class Row(msgspec.Struct, frozen=True):
    """What a run found: top-1 after the shares of a clip (of a whole clip alone in the clip form) by each way to ask,
    `own`, or `solved` and `both` with a weight decay; the budget; seconds of training and of all.
    """

    name: str
    network: str
    backbone: str
    form: str
    start: str
    split: int
    seed: int
    trial: int
    top1: dict[str, tuple[float, ...]]
    budget: dict[str, Any]
    train_s: float
    all_s: float


def network_of(run: Run, classes: int, budget: Budget, pooling: str) -> Network:
    """The run's network: as it learns (`pooling` mean), or as its last layer is solved for (motion)."""
    checkpoint = read_checkpoint(run.like, "tsn", budget.frames, classes=classes)
    plain = build_network("tsn", checkpoint.backbone, budget.frames, classes, causal=True)
    assert isinstance(plain, InvertedNet)
    options: dict[str, Any] = {"dropout": budget.dropout, "pooling": pooling}
    if run.network != "tsn" and run.start != "nothing":
        options["shift_from"] = budget.trained_from or plain.rows[2][0] + 1
    frames = budget.frames if run.form == "clip" or pooling == "mean" else WINDOW
    if run.network == "tcm" and frames != budget.frames:
        options["span"] = budget.frames
    net = build_network(run.network, checkpoint.backbone, frames, classes, run.form == "causal", **options)
    if isinstance(net, LightTCM):
        net.tcm.begin_softly()
    if run.start != "nothing":
        net.load_state_dict(checkpoint.parameters, strict=False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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


def do(run: Run, budget: Budget, out: Path) -> Row:
    """Train and ask."""
    packed, begun = SET[0], time.monotonic()
    classes, device = len(packed.contents.labels), packed.frames.device
    train, test = packed.half(run.split, trains=True), packed.half(run.split, trains=False)
    if run.trial >= 0:
        held = torch.tensor([fold_of(packed.contents.clips[n].source) == run.split - 1 for n in train.tolist()])
        train, test = train[~held], train[held]
        if not len(test) or not len(train):
            raise ToolError(f"split {run.split} has too few videos to hold some out: give --trials 0")
    torch.manual_seed(run.seed)
    net = network_of(run, classes, budget, "mean").to(device)
    looks = Looks(packed, train, budget, causal=run.form == "causal", seed=run.seed)
    if run.start == "drawn":
        learn_motion(net, run.like, packed.contents.size, device, WORKERS[0])
    learns: Learns = "all" if run.start == "nothing" else "late"
    net = finetune(net, looks, learns=learns, say=lambda text: print(run.name, text, flush=True))
    train_s = time.monotonic() - begun
    state = net.state_dict()
    pooled = network_of(run, classes, budget, "motion").eval().to(device)
    pooled.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")}, strict=False)
    rows = torch.cat([train, test])
    found = ask(pooled, packed, rows, budget)
    values = found.new_zeros(len(packed.labels), *found.shape[1:])
    values[rows.to(device)] = found
    emphasis = torch.as_tensor(pooled.emphasis).to(device)
    views, own = Vectors(values, packed.labels, (), emphasis), Layer(state["fc.weight"], state["fc.bias"])
    top1 = answers(pooled, own, views, train.to(device), test.to(device))
    if run.trial < 0:
        part = out / f"{run.name}.part"
        torch.save({n: (v.half() if v.is_floating_point() else v).cpu() for n, v in state.items()}, part)
        part.replace(out / f"{run.name}.pt")
    return Row(
        name=run.name, network=run.network, backbone=net.backbone, form=run.form, start=Path(run.start).stem,
        split=run.split, seed=run.seed, trial=run.trial, top1=top1, budget=vars(budget),
        train_s=train_s, all_s=time.monotonic() - begun,
    )  # fmt: skip


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


def read_rows(file: Path) -> dict[str, Row]:
    """The runs that are done; a line that was broken off is none."""
    found = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            row = msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError:
            continue
        found[row.name] = row
    return found


def chosen(rows: Sequence[Row]) -> tuple[Budget, str]:
    """The budget and the way to ask that did best on held-out clips, on average; the first of equally good ones."""
    scores: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        if row.trial >= 0:
            for way, shares in row.top1.items():
                scores.setdefault((row.trial, way), []).append(shares[-1])
    if not scores:
        return TRIALS[0], f"solved {DECAYS[1]:g}"
    trial, way = max(scores, key=lambda key: (np.mean(scores[key]), -key[0]))
    return TRIALS[trial], way


def trials(options: argparse.Namespace) -> list[Run]:
    """The runs that choose: the last of the networks, on the first file, in the causal form."""
    start = options.init[0]
    return [
        Run(options.networks[-1], "causal", start, start, split, 0, trial)
        for trial, split in product(range(options.trials), options.splits)
    ]


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """All the others, the most telling first."""
    first, split, best = options.init[0], options.splits[0], options.networks[-1]
    for start in options.init:
        for form in options.forms:
            for number, network in product(options.splits[: None if form == "causal" else 1], options.networks[::-1]):
                yield Run(network, form, start, start, number, 0)
        if start == first and options.drawn:
            yield Run("tcm", "causal", "drawn", first, split, 0)
        if start == first and options.untrained:
            for network in options.networks[::-1]:
                yield Run(network, "causal", "nothing", first, split, 0)
    for seed, number in product(range(1, options.seeds), options.splits):
        yield Run(best, "causal", first, first, number, seed)


def compare(options: argparse.Namespace) -> list[Row]:
    """Everything that is not done yet, until the time is over."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    file, until = out / "rows.jsonl", time.monotonic() + options.budget_s
    start = (options.data, options.device, options.threads)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), begin, start) as pool:
        try:
            for wanted in (trials(options), list(runs(options))):
                done = read_rows(file)
                budget, _ = chosen(list(done.values()))
                left = {
                    pool.submit(do, run, TRIALS[run.trial] if run.trial >= 0 else budget, out): run.name
                    for run in wanted
                    if run.name not in done
                }
                for future in as_completed(left):
                    try:
                        keep(future.result(), file)
                    except RuntimeError as error:  # of torch: the device has too little memory; the others go on
                        print(f"{left[future]}: failed: {error}", file=sys.stderr, flush=True)
                    if time.monotonic() > until:
                        pool.shutdown(cancel_futures=True)
                        return list(read_rows(file).values())
        except BaseException:
            for process in active_children():
                process.terminate()
            raise
    return list(read_rows(file).values())


def keep(row: Row, file: Path) -> None:
    """Write a line more, and say it."""
    with file.open("ab") as lines:
        lines.write(msgspec.json.encode(row) + b"\n")
    print(line(row), flush=True)


def line(row: Row) -> str:
    """A run in one line."""
    found = ", ".join(f"{way} {100 * shares[-1]:.1f}" for way, shares in row.top1.items())
    return f"{row.name}: {found}; {row.train_s:.0f} of {row.all_s:.0f} s"


def table(rows: Sequence[Row]) -> str:
    """The runs on whole training halves in Markdown."""
    _, way = chosen(rows)
    lines = [
        f"| network | backbone | form | start | seed | splits | own | {way} | after 20 / 40 / 60 / 80 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.split):
        if row.trial < 0:
            groups.setdefault((row.network, row.backbone, row.form, row.start, row.seed), []).append(row)
    for key, found in groups.items():
        own, best = (np.array([row.top1[name] for row in found]) for name in ("own", way))
        cells = (
            *map(str, key),
            " / ".join(str(row.split) for row in found),
            " / ".join(f"{100 * x:.1f}" for x in own[:, -1]) + f" = {100 * own[:, -1].mean():.1f} %",
            " / ".join(f"{100 * x:.1f}" for x in best[:, -1]) + f" = {100 * best[:, -1].mean():.1f} %",
            " / ".join(f"{100 * x:.1f}" for x in best.mean(0)[:-1]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare networks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="written by tools.compare pack")
    parser.add_argument("--init", nargs="+", required=True, metavar="FILE", help="ImageNet weights")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--splits", nargs="+", type=int, choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of the last network (default: %(default)s)")
    parser.add_argument("--untrained", action="store_true", help="also from nothing, on the first split")
    parser.add_argument("--drawn", action="store_true", help="also a TCM that begins with drawn motion, likewise")
    parser.add_argument("--trials", type=int, default=len(TRIALS), help="budgets that are tried on held-out clips")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each on the processor (default: %(default)s)")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="begin no run after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("runs/networks"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.jobs, options.threads) < 1 or not 0 <= options.trials <= len(TRIALS):
        parser.error(f"--seeds, --jobs and --threads are 1 or more, --trials 0 to {len(TRIALS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        rows = compare(options)
    except EngineError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0
