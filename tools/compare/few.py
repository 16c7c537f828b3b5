"""How few clips are enough: five actions of J-HMDB from a few clips each, with a backbone that never learned them.

    python -m tools.compare few --data FOLDER --init default efficientnet-lite0.pth [--out runs/jhmdb]

A start is a model (`default`: drawn motion) or a file of ImageNet weights. It stays as it is; a last layer is solved
for from 5 or 10 clips a label of the first split's training half, and asked about those labels' clips of its test half.
With --others each start is also measured with what the other 16 actions teach: in which directions of its features
clips of one action differ. Ten draws of labels and clips, the same for all starts. Features are computed once and kept
in --out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engines import EngineError, find_models
from engines.backends.eager import load_network
from engines.networks import Network
from engines.spec import read_spec
from engines.training.head import Layer, Look, Vectors, imagenet, layer_of, top1
from engines.training.loop import keep_memory
from engines.training.progress import writing
from tools.compare.jhmdb import everything, features, kept_as
from tools.errors import ToolError

LOOK = Look()  # of a network that begins with ImageNet weights; a model tells its own
LABELS = 5
CLIPS = (5, 10)
DECAY = 0.1  # choice; of so few clips none can be held out
WITHIN = 0.003  # choice


@dataclass(frozen=True)
class Result:
    """Top-1 of each draw, by the number of clips a label; seconds for one draw's layer, features apart."""

    start: str
    top1: dict[int, tuple[float, ...]]
    solve_s: float


def open_start(start: str) -> tuple[Network, Look, Path]:
    """The network, how it sees a clip, and the file of its weights. Raises ToolError and EngineError."""
    sidecar = find_models().get(start)
    if sidecar is None:
        return imagenet(start, LABELS, LOOK.frames, pooling="motion"), LOOK, Path(start)
    spec = read_spec(sidecar)
    if spec.height != spec.width or spec.mode != "stream":
        raise ToolError(f"{start}: takes a stream of square pictures here, and this is another kind of model")
    weights = sidecar.with_suffix(".pt")
    return load_network(weights, spec), Look(spec.rate_hz, spec.height, spec.frames), weights


def draw(labels: Tensor, train: Tensor, test: Tensor, clips: int, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Numbers of the clips to learn from, of those to ask about, and the five labels. Raises ToolError for a set that
    has too few.
    """
    rng = np.random.default_rng((seed, clips))
    here = [label for label in labels.unique().tolist() if int((labels[train] == label).sum()) >= clips]
    if len(here) < LABELS:
        raise ToolError(f"only {len(here)} labels have {clips} clips to learn from; {LABELS} are needed")
    chosen = sorted(rng.choice(here, LABELS, replace=False).tolist())
    learned = [rng.choice(train[labels[train] == label].numpy(), clips, replace=False) for label in chosen]
    asked = test[torch.isin(labels[test], torch.tensor(chosen))]
    return torch.from_numpy(np.concatenate(learned)), asked, chosen


def measure(
    views: Sequence[Vectors], train: Tensor, test: Tensor, draws: int, *, others: bool = False
) -> tuple[dict[int, tuple[float, ...]], float]:
    """Top-1 of each draw by the number of clips, and the mean seconds of a draw; `others`: with what the labels of the
    first view that are not asked about teach.
    """
    found: dict[int, tuple[float, ...]] = {}
    started = time.monotonic()
    for clips in CLIPS:
        scores = []
        for seed in range(draws):
            learned, asked, chosen = draw(views[0].labels, train, test, clips, seed)
            number = torch.full((int(views[0].labels.max()) + 1,), -1)
            number[chosen] = torch.arange(LABELS)
            renamed = [replace(view, labels=number[view.labels]) for view in views]
            if others:
                rest = train[renamed[0].labels[train] < 0]
                told = whitened(views[0], rest)
                renamed[0] = replace(renamed[0], values=told)
                layer = ridge(told[learned].flatten(0, 1), renamed[0].labels[learned].repeat_interleave(told.shape[1]))
            else:
                layer = layer_of(renamed, learned, LABELS, DECAY)
            scores.append(top1(layer, renamed[0], asked))
        found[clips] = tuple(scores)
    return found, (time.monotonic() - started) / (len(CLIPS) * draws)


def whitened(view: Vectors, rows: Tensor) -> Tensor:
    """All vectors [N, M, D], with deviation `emphasis` over the clips `rows`, and shorter along the directions in which
    clips of one label of `rows` differ from each other: by 1 / sqrt(1 + the share of their variance there / WITHIN).
    """
    known, labels = view.values[rows].float(), view.labels[rows]
    mean, deviation = known.mean((0, 1)), known.std((0, 1))
    scaled = (view.values.float() - mean) / (deviation + 1e-3 * deviation.mean() + 1e-12) * view.emphasis
    classes = [scaled[rows[labels == label]].flatten(0, 1) for label in labels.unique()]
    within = torch.cat([vectors - vectors.mean(0) for vectors in classes])
    variances, directions = torch.linalg.eigh(within @ within.T)
    shorter = torch.rsqrt(1 + variances.clamp(min=0) / (WITHIN * variances.sum())) - 1
    change = (directions * (shorter / variances.clamp(min=1e-6 * float(variances.max())))) @ directions.T
    along: Tensor = (scaled @ within.T) @ change @ within
    return scaled + along


def ridge(values: Tensor, labels: Tensor) -> Layer:
    """The layer with the least squares on vectors [N, D], of which few are there; held back as much as they vary."""
    mean, targets = values.mean(0), torch.nn.functional.one_hot(labels, LABELS).float()
    centred = values - mean
    products = centred @ centred.T
    held = products + products.diagonal().mean() * torch.eye(len(products))
    weight = (centred.T @ torch.linalg.solve(held, targets - targets.mean(0))).T
    return Layer(weight, -weight @ mean)


def compare(options: argparse.Namespace) -> list[Result]:
    """Every start."""
    videos, rows = everything(options.data)
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for start in options.init:
        torch.manual_seed(0)
        net, look, weights = open_start(start)
        name = kept_as(weights, "motion", look)
        views = features(net, videos, look, options.views, 0, options.out, name)
        learned = [replace(view, values=view.values[:, :2]) for view in views]
        for others in (False, True) if options.others else (False,):
            top, seconds = measure(learned, rows["train"][1], rows["validation"][1], options.draws, others=others)
            results.append(Result(Path(start).name + (" and the other actions" if others else ""), top, seconds))
            print(line(results[-1]), flush=True)
    return results


def line(result: Result) -> str:
    """A row of the table in Markdown."""
    cells: list[Any] = [result.start]
    for clips in CLIPS:
        percent = 100 * np.array(cast(Any, result.top1[clips]))
        cells.append(f"{percent.mean():.1f} ± {percent.std():.1f} %")
    return f"| {' | '.join(cells)} | {result.solve_s:.1f} s |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare few", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="J-HMDB's clips and split files")
    parser.add_argument("--init", nargs="+", required=True, metavar="START", help="a model, or ImageNet weights")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/jhmdb"), help="keeps the features (default: %(default)s)"
    )
    parser.add_argument("--views", type=int, default=0, help="varied looks at each clip, too (default: none)")
    parser.add_argument("--others", action="store_true", help="also with what the other actions teach")
    parser.add_argument("--draws", type=int, default=10, help="of labels and clips (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.views < 0 or options.draws < 1:
        parser.error("--views are 0 or more, --draws 1 or more")
    keep_memory()
    try:
        results = compare(options)
    except EngineError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print("| start | 5 clips | 10 clips | solving |", "|---|---|---|---|", *map(line, results), sep="\n")
    return 0
