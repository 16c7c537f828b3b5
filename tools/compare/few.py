"""How few clips are enough: five actions of J-HMDB from a few clips each, with a backbone that never learned them.

    python -m tools.compare few --data FOLDER --init default efficientnet-lite0.pth [--out runs/jhmdb]

A start is a model (`default`: drawn motion) or a file of ImageNet weights. It stays as it is; a last layer is solved
for from 5 or 10 clips a label of the first split's training half, and asked about those labels' clips of its test half.
With --others each start is also measured with what the other 16 actions teach: in which directions of its features
clips of one action differ; the nearest mean answers then. Ten draws of labels and clips, the same for all starts.
Features are computed once and kept in --out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from engines import find_models
from engines.backends.eager import load_network
from engines.networks import Network
from engines.spec import read_spec
from engines.training.head import Look, Vectors, imagenet, layer_of, top1
from engines.training.loop import keep_memory
from engines.training.progress import writing
from tools.compare.jhmdb import everything, features, kept_as
from tools.compare.shots import CLIPS, LABELS, draw, numbered, with_others
from tools.errors import ToolError

LOOK = Look()  # of a network that begins with ImageNet weights; a model tells its own
DECAY = 0.1  # choice; of so few clips none can be held out


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
            renamed = [numbered(view, chosen) for view in views]
            if others:
                layer = with_others(views[0], train, learned, chosen)
            else:
                layer = layer_of(renamed, learned, LABELS, DECAY)
            scores.append(top1(layer, renamed[0], asked))
        found[clips] = tuple(scores)
    return found, (time.monotonic() - started) / (len(CLIPS) * draws)


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
    results = compare(options)
    print("| start | 5 clips | 10 clips | solving |", "|---|---|---|---|", *map(line, results), sep="\n")
    return 0
