"""Train the networks on the same clips and print what each has learned: the papers' claim, measured again.

    python -m tools.compare motion [--networks tsn tsm ...] [--clips 12000] [--epochs 2] [--seeds 1] [--json FILE]

The task is which of ten ways a picture moves, in clips of 8 frames: a single frame says nothing of it, so that TSN must
fail. All networks have the same backbone (ResNet-26 of bottlenecks, quarter width), and see the same clips in the same
order as often, in the clip form and in the causal form; both are asked once for a clip, by the mean of their logits.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines import load_engine
from engines.build.model import build_model
from engines.networks import build_network
from engines.networks.measure import describe
from engines.spec import EngineSpec
from engines.training.recipe import Part, Recipe
from tools.compare.training import train
from tools.motion.clips import warp
from tools.motion.paths import LABELS, Planned, draw_path
from tools.motion.textures import sprite
from tools.results import keep_result

NETWORKS = ("tsn", "tsm", "tcm", "stm", "tanet", "gtdnet")
FORMS = ("clip", "causal")
BACKBONE, WIDTH, FRAMES, SIZE, FPS = "resnet26", 0.25, 8, 64, 6.0
BATCH, RATE, WARMUP, DECAY = 32, 2e-3, 20, 0.05
TIMED_STEPS = 200


@dataclass(frozen=True)
class Run:
    """One network in one form, trained from one seed."""

    network: str
    form: str
    seed: int


@dataclass(frozen=True)
class Row:
    """One line of the table: top-1 on held-out clips (mean and, of several seeds, spread), cost and speed.

    macs     multiply-adds for the answer to one more frame
    step_ms  the same in OpenVINO, one thread, median, all models in turn; the clip form's is a window that moves on
    """

    network: str
    form: str
    top1: float
    spread: float
    parameters: int
    macs: int
    step_ms: float
    train_s: float


def draw_clip(label: int, seed: Sequence[int]) -> Tensor:
    """A clip [8, 3, 64, 64] uint8: a bright thing moves on a dark ground.

    Where it is, how large and how it is turned are drawn alike for all labels, for some frame of the clip, so that one
    frame does not give the label away. That bright and dark never change places is what lets a small network begin to
    learn within a short budget: what a movement does to edges of either sign is nothing on average.
    """
    rng = np.random.default_rng(seed)
    radius = np.exp(rng.uniform(np.log(0.18), np.log(0.8)))
    path = draw_path(rng, [Planned(label, 0, FRAMES)], FPS, radius, 0.6)
    while path.labels[-1] != label:  # too slow to be seen
        path = draw_path(rng, [Planned(label, 0, FRAMES)], FPS, radius, 0.6)
    anchor = np.array([*rng.uniform(-0.6, 0.6, 2), np.log(radius), rng.uniform(0, 2 * np.pi)])
    poses = torch.from_numpy(path.poses - path.poses[rng.integers(FRAMES)] + anchor).float()
    thing = torch.from_numpy(sprite(rng, SIZE)).permute(2, 0, 1)  # [RGB and coverage, 64, 64]
    shown = warp(thing[None], poses[None], SIZE)[0]
    colour, coverage = shown[:, :3], shown[:, 3:]
    dark = torch.from_numpy(rng.uniform(0, 0.25, 3)).float().view(3, 1, 1)
    video = dark * (1 - coverage) + 0.6 * coverage + 0.4 * colour
    video += torch.from_numpy(rng.normal(0, 0.01, video.shape)).float()
    return video.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def draw(clips: int, seed: int) -> tuple[Tensor, Tensor]:
    """At least so many clips [N, 8, 3, 64, 64], and the label of each [N], all alike often."""
    wanted = list(product(range(math.ceil(clips / len(LABELS))), range(len(LABELS))))
    video = torch.stack([draw_clip(label, (seed, number, label)) for number, label in wanted])
    return video, torch.tensor([label for _, label in wanted])


def recipe_of(run: Run, steps: int) -> Recipe:
    """How a network is trained, in so many steps: all alike."""
    part = Part(steps=steps, batch=BATCH, size=SIZE, learning_rate=RATE, clip_frames=FRAMES)
    return Recipe(
        network=run.network, backbone=BACKBONE, width=WIDTH, frames=FRAMES, causal=run.form == "causal", size=SIZE,
        fps=FPS, dropout=0.1, seed=run.seed, weight_decay=DECAY, warmup_steps=WARMUP, average=0.0, precision="bf16",
        parts=(part,),
    )  # fmt: skip


def time_steps(weights: dict[tuple[str, str], Path]) -> dict[tuple[str, str], float]:
    """The median step of each exported model, milliseconds, one row, all in turn."""
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    active, fresh = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    times: dict[tuple[str, str], list[float]] = {name: [] for name in weights}
    with tempfile.TemporaryDirectory() as folder:
        engines = {}
        for (network, form), path in weights.items():
            causal = form == "causal"
            net = build_network(network, BACKBONE, FRAMES, len(LABELS), causal, WIDTH)
            net.load_state_dict(torch.load(path, weights_only=True))
            spec = EngineSpec(
                name=f"{network}-{form}", labels=LABELS, height=SIZE, width=SIZE, rate_hz=10.0, frames=FRAMES,
                mode="stream" if causal else "window", fit="stretch", network=network, backbone=BACKBONE,
                channel_width=WIDTH, states=(), files={},
            )  # fmt: skip
            build_model(net.eval(), spec, Path(folder), steps=FRAMES)  # they are timed, not installed
            engines[network, form] = load_engine(Path(folder) / f"{spec.name}.onnx", threads=1, precision="fp32")
        states = {name: engine.new_state(1) for name, engine in engines.items()}
        for _ in range(TIMED_STEPS):
            for name, engine in engines.items():
                started = time.perf_counter()
                engine.step(frames, active, fresh, states[name])
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: float(np.median(values[FRAMES:])) for name, values in times.items()}


def compare(networks: list[str], clips: int, epochs: int, seeds: int, jobs: int) -> list[Row]:
    """Train every network in both forms (TSN has one), `jobs` at a time, and measure them."""
    forms = {network: FORMS if network != "tsn" else ("causal",) for network in networks}
    runs = [Run(n, form, seed) for seed, n in product(range(seeds), networks) for form in forms[n]]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print(f"drawing {clips} clips", flush=True)
        data = dict(zip(("clips", "labels"), draw(clips, 0), strict=True))
        data |= zip(("held_out_clips", "held_out_labels"), draw(max(100, clips // 8), 1), strict=True)
        torch.save(data, place / "clips.pt")
        steps = epochs * (len(data["labels"]) // BATCH)
        del data
        files = {run: place / f"{run.network}-{run.form}-{run.seed}.pt" for run in runs}
        results: dict[Run, tuple[float, float]] = {}
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = {run: pool.submit(train, recipe_of(run, steps), place / "clips.pt", files[run]) for run in runs}
            for run, future in futures.items():
                results[run] = future.result()
                print(f"{run.network} {run.form}, seed {run.seed}: {results[run][0]:.1%}", flush=True)
        times = time_steps({(run.network, run.form): file for run, file in files.items() if run.seed == 0})
    rows = []
    for network, form in times:
        figures = describe(network, BACKBONE, frames=FRAMES, classes=len(LABELS), size=SIZE, width=WIDTH)
        found: NDArray[np.float64] = np.array([results[Run(network, form, seed)] for seed in range(seeds)])
        stream = figures.stream
        macs = stream.step_macs if form == "causal" and stream is not None else figures.window.step_macs
        top1, seconds = found.T
        rows.append(
            Row(
                network=network,
                form=form,
                top1=float(top1.mean()),
                spread=float(np.ptp(top1)),
                parameters=figures.parameters,
                macs=macs,
                step_ms=times[network, form],
                train_s=float(seconds.mean()),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """The rows in Markdown, with what the causal form loses against the clip form, in points of top-1."""
    lines = [
        "| network | form | top-1 | causal form loses | parameters | multiply-adds a step | step | steps/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    clip = {row.network: row.top1 for row in rows if row.form == "clip"}
    for row in rows:
        both = row.network in clip
        cells = (
            row.network,
            row.form if both else "either",
            f"{row.top1:.1%}" + (f" ± {row.spread / 2:.1%}" if row.spread else ""),
            f"{100 * (clip[row.network] - row.top1):.1f}" if both and row.form == "causal" else "",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.macs / 1e6:.1f} M",
            f"{row.step_ms:.2f} ms",
            f"{1e3 / row.step_ms:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare motion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--clips", type=int, default=12000, help="clips to train on; an eighth more is held out")
    parser.add_argument("--epochs", type=int, default=2, help="how often each is seen")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each network")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, of one thread each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    options = parser.parse_args(arguments)
    if min(options.clips // BATCH, options.epochs, options.seeds, options.jobs) < 1:
        parser.error(f"--clips must be at least {BATCH}, and --epochs, --seeds and --jobs at least 1")
    started = time.monotonic()
    rows = compare(options.networks, options.clips, options.epochs, options.seeds, options.jobs)
    print(table(rows))
    minutes = (time.monotonic() - started) / 60
    budget = f"{options.clips} clips, {options.epochs} epochs, {options.seeds} seed(s)"
    print(f"{budget}; chance is {1 / len(LABELS):.0%}; {minutes:.0f} min")
    if options.json is not None:
        content = msgspec.json.format(msgspec.json.encode([asdict(row) for row in rows]), indent=1)
        keep_result(parser, options.json, content)
    return 0
