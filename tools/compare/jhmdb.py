"""What people do, on J-HMDB: ImageNet features that stay as they are, a last layer, the causal stream.

    python -m tools.compare jhmdb --data FOLDER --init efficientnet-lite0.pth mobilenet_v2.pt [--out runs/jhmdb]

For each file of ImageNet weights and each pooling the features of all clips are computed once (kept in --out, from
which an interrupted run goes on), and a last layer is solved for on each of the three splits. Its weight decay is
chosen on a fifth of the training half, by source video; the test half decides nothing. The answer after a share of a
clip is the newest frame's, as a stream gives it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines.networks import Network, build_network
from engines.networks.checkpoints import read_checkpoint
from engines.networks.measure import describe
from engines.networks.tsm import POOLINGS
from engines.spec import sha256
from engines.training.head import SHARES, Look, Vectors, at_moments, at_shares, choose, imagenet, layer_of, top1
from engines.training.loop import keep_memory
from engines.training.progress import writing
from tools.compare.steps import step_ms
from tools.data.datasets import VideoSet, read_dataset
from tools.train.folds import fold_of, source_of
from tools.train.head import read_vectors, varied, whole

SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    top1      by split, of whole clips
    observed  after the shares of a clip, the mean of the splits
    decays    by split, chosen on a fifth of its training half
    """

    backbone: str
    start: str
    pooling: str
    seed: int
    top1: tuple[float, ...]
    observed: tuple[float, ...]
    decays: tuple[float, ...]
    parameters: int
    macs: int
    step_ms: float


def everything(root: Path) -> tuple[VideoSet, dict[str, dict[int, Tensor]]]:
    """All clips of the set, and which of them each split trains and tests: kind -> split -> numbers."""
    halves = {
        kind: {split: read_dataset("hmdb51", root, f"{kind}{split}") for split in SPLITS}
        for kind in ("train", "validation")
    }
    first = halves["train"][1]
    videos = {video.path: video for half in halves.values() for part in half.values() for video in part.videos}
    order = sorted(videos)
    place = {path: number for number, path in enumerate(order)}
    rows = {
        kind: {split: torch.tensor([place[video.path] for video in part.videos]) for split, part in half.items()}
        for kind, half in halves.items()
    }
    return VideoSet(first.labels, tuple(videos[path] for path in order), first.mirrored), rows


def kept_as(weights: Path | None, pooling: str, look: Look) -> str:
    """How the features of a network are called in the folder: other weights or another look, other features."""
    origin = "nothing" if weights is None else f"{weights.stem}-{sha256(weights)[:8]}"
    return f"{origin}-{pooling}-{look.size}px-{look.rate_hz:g}hz-{look.frames}"


def features(
    net: Network, videos: VideoSet, look: Look, views: int, seed: int, folder: Path, name: str
) -> list[Vectors]:
    """The vectors of the whole clips and of `views` varied looks at each; from the folder where they are there."""
    found = []
    for number in range(views + 1):
        file = folder / f"{name}-{'whole' if number == 0 else f'{seed}-{number}'}.pt"
        if not file.exists():
            clips = whole(videos, look) if number == 0 else varied(videos, look, look.frames + 2, seed * 1000 + number)
            vectors = read_vectors(net, clips, len(videos.videos), at_shares)
            for fault in vectors.faults:
                print(f"left out: {fault}")
            with writing(folder):
                part = file.with_suffix(".part")
                torch.save({"values": vectors.values, "labels": vectors.labels}, part)
                part.replace(file)
            print(f"{file.name}: {len(vectors.labels)} clips", flush=True)
        content = torch.load(file, weights_only=True)
        found.append(Vectors(content["values"], content["labels"], emphasis=net.emphasis))
    return found


def measure(
    views: Sequence[Vectors], videos: VideoSet, rows: dict[str, dict[int, Tensor]]
) -> tuple[list[list[float]], list[float]]:
    """Top-1 on the test half of each split after each share, and the decay chosen on its training half."""
    classes, learned = len(videos.labels), at_moments(torch.zeros(1, 1)).shape[0]
    moments = [replace(view, values=view.values[:, :learned]) for view in views]
    accuracies, decays = [], []
    for split in SPLITS:
        train, test = rows["train"][split], rows["validation"][split]
        held = torch.tensor([fold_of(source_of(videos.videos[number].path)) == 0 for number in train.tolist()])
        decay = choose(moments, train, held, classes).decay
        layer = layer_of(moments, train, classes, decay)
        shares = [
            replace(views[0], values=views[0].values[:, learned + n : learned + n + 1]) for n in range(len(SHARES))
        ]
        accuracies.append([top1(layer, share, test) for share in shares])
        decays.append(decay)
    return accuracies, decays


def compare(options: argparse.Namespace) -> list[Row]:
    """Every file of weights, and nothing if that is asked for, with each pooling and seed."""
    videos, rows = everything(options.data)
    look, classes = Look(options.rate, options.size), len(videos.labels)
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    starts = [(read_checkpoint(file, classes=classes).backbone, file) for file in options.init]
    if options.untrained:
        starts += [(starts[0][0], None)]
    lines = []
    for backbone, file in starts:
        for pooling in options.pooling:
            torch.manual_seed(0)
            name = kept_as(Path(file) if file else None, pooling, look)
            if file is None:
                net = build_network(
                    "tsn", backbone, look.frames, classes, causal=True, dropout=0.0, pooling=pooling
                ).eval()
            else:
                net = imagenet(file, classes, look.frames, pooling=pooling)
            figures = describe("tsn", backbone, frames=look.frames, classes=classes, size=look.size, pooling=pooling)
            assert figures.stream is not None
            time_ms = step_ms(net, videos.labels, look, {"pooling": pooling})
            for seed in range(options.seeds):
                views = features(net, videos, look, options.views, seed, options.out, name)
                accuracies, decays = measure(views, videos, rows)
                lines.append(
                    Row(
                        backbone=backbone, start="ImageNet" if file else "nothing", pooling=pooling, seed=seed,
                        top1=tuple(shares[-1] for shares in accuracies),
                        observed=tuple(np.mean(accuracies, 0).tolist()), decays=tuple(decays),
                        parameters=figures.parameters, macs=figures.stream.step_macs, step_ms=time_ms,
                    )
                )  # fmt: skip
                print(table(lines[-1:]).splitlines()[-1], flush=True)
    return lines


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| backbone | start | pooling | splits 1 / 2 / 3 | mean | after 20 / 40 / 60 / 80 % | parameters | step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.backbone,
            row.start,
            row.pooling + (f", seed {row.seed}" if row.seed else ""),
            " / ".join(f"{100 * value:.1f}" for value in row.top1),
            f"{100 * np.mean(row.top1):.1f} %",
            " / ".join(f"{100 * value:.1f}" for value in row.observed[:-1]),
            f"{row.parameters / 1e6:.2f} M",
            f"{row.step_ms:.1f} ms",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare jhmdb", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="the clips, and HMDB51's split files"
    )
    parser.add_argument(
        "--init", nargs="+", required=True, metavar="FILE", help="ImageNet weights: docs/tasks/checkpoints.md"
    )
    parser.add_argument("--pooling", nargs="+", choices=POOLINGS, default=POOLINGS, help="default: all")
    parser.add_argument("--untrained", action="store_true", help="the first file's backbone with random weights, too")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/jhmdb"), help="keeps the features (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=Look.size, help="pixels (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=Look.rate_hz, help="frames a second (default: %(default)s)")
    parser.add_argument("--views", type=int, default=0, help="varied looks at each clip, too (default: none)")
    parser.add_argument("--seeds", type=int, default=1, help="of the varied looks (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.views < 0 or options.seeds < 1 or options.size < 32 or not 0 < options.rate <= 240:
        parser.error("--views are 0 or more, --seeds 1 or more, --size 32 or more, --rate above 0 and at most 240")
    keep_memory()
    rows = compare(options)
    print(table(rows))
    return 0
