"""What a model makes of motions that nobody taught it, with and without a share for the unknown.

    python -m tools.evaluate.unknown default --minutes 10

The last layer of a network is solved anew without some of the drawn motions, which then are unknown. Thresholds are
chosen as `streamer tune` does, on scenes of their own, and measured on others. The network itself has seen all of the
motions when it was trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines import EngineError, load_engine
from engines.backends.eager import EagerEngine
from engines.training.head import Layer, solve
from streamer.config import EventConfig
from streamer.tuning.choosing import Truths, choose, mean_recall, tabulate, tighten, within
from streamer.tuning.listening import Heard
from streamer.tuning.matching import Segment
from streamer.tuning.truth import Recording
from tools.evaluate.streaming import Scenes, runs
from tools.motion.paths import APPROACHING, CLOCKWISE, COUNTERCLOCKWISE, LABELS, LEFT, RECEDING, RIGHT, SHAKING, STILL

GONE = ((SHAKING,), (CLOCKWISE, COUNTERCLOCKWISE), (APPROACHING, RECEDING), (LEFT, RIGHT))
DECAY = 0.01  # of the layer


@dataclass(frozen=True)
class Scene:
    """What the last layer reads of a scene, [T, D], and the label of each frame, [T]."""

    vectors: Tensor
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """What thresholds do on scenes that they were not chosen on, without a share for the unknown and with one.

    motions  unknown ones, a minute
    unknown  the logit that was chosen; None: no share
    """

    gone: tuple[str, ...]
    motions: float
    recalls: list[float]
    false_per_minute: list[float]
    unknown: float | None


def look(engine: EagerEngine, minutes: float, seed: int) -> list[Scene]:
    """Drawn scenes as the network sees them."""
    stepper, scenes = engine.stepper, []
    for video, labels in Scenes(engine.spec, minutes, seed).draw():
        with torch.inference_mode():
            clip = torch.from_numpy(video[..., ::-1].copy()).permute(0, 3, 1, 2)[
                None
            ]  # [T, H, W, 3] -> [1, T, 3, H, W]
            vectors, _ = stepper.network.vectors((clip - stepper.mean) / stepper.std, {})
        scenes.append(Scene(vectors[0].clone(), labels))
    return scenes


def learn(scenes: Sequence[Scene], known: Sequence[int]) -> Layer:
    """The layer for some of the motions."""
    labels = np.concatenate([scene.labels for scene in scenes])
    chosen = np.isin(labels, known)
    numbers = torch.from_numpy(np.searchsorted(known, labels[chosen]))
    return solve(torch.cat([scene.vectors for scene in scenes])[chosen], numbers, len(known), DECAY)


def hear(scenes: Sequence[Scene], layer: Layer, known: Sequence[int], rate_hz: float, frames: int) -> Iterator[Heard]:
    """What the layer says of scenes; motions that are not known are in no segment."""
    for scene in scenes:
        segments = tuple(
            Segment(LABELS[label], start / rate_hz, end / rate_hz)
            for label, start, end in runs(scene.labels)
            if label in known
        )
        times_us = np.rint(np.arange(frames - 1, len(scene.labels)) * 1e6 / rate_hz).astype(np.int64)
        logits = layer(scene.vectors[frames - 1 :]).numpy().astype(np.float32)
        yield Heard(Recording(Path("scene"), segments), times_us, logits, frozenset(), len(scene.labels) / rate_hz)


def measure_unknown(engine: EagerEngine, minutes: float, seed: int, false_per_hour: float) -> Iterator[Row]:
    """A row for each of GONE; `minutes` of scenes to learn from, as many to tune on, as many to measure."""
    learned, tuned, measured = (look(engine, minutes, 3 * seed + part) for part in range(3))
    rate_hz, frames = engine.spec.rate_hz, engine.spec.frames
    base = EventConfig(background=(LABELS[STILL],))
    for gone in GONE:
        known = [label for label in range(len(LABELS)) if label not in gone]
        layer = learn(learned, known)
        labels = [LABELS[label] for label in known]
        truths = Truths(list(hear(tuned, layer, known, rate_hz, frames)), labels, base)
        others = replace(truths, heard=list(hear(measured, layer, known, rate_hz, frames)))
        table, budget = tabulate(truths, None), int(false_per_hour * truths.hours)
        plain = tighten(truths, table, within(table, truths, budget), budget)
        choice = choose(truths, false_per_hour)
        found = [others.matching(one.config) for one in (plain, choice)]
        yield Row(
            tuple(LABELS[label] for label in gone),
            sum(label in gone for scene in measured for label, _, _ in runs(scene.labels)) / (60 * others.hours),
            [mean_recall(others, one) for one in found],
            [len(one.false) / (60 * others.hours) for one in found],
            choice.table.unknown,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate.unknown", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("model")
    parser.add_argument("--minutes", type=float, default=10.0, help="of scenes to learn from, to tune on, to measure")
    parser.add_argument("--false-per-hour", type=float, default=60.0, metavar="NUMBER", help="as for `streamer tune`")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    if not (0 < options.minutes <= 600 and 0 <= options.false_per_hour <= 1e5):
        parser.error("--minutes is above 0 and at most 600, --false-per-hour from 0 to 100000")
    try:
        engine = load_engine(options.model, "eager", threads=1)
        assert isinstance(engine, EagerEngine)
        for row in measure_unknown(engine, options.minutes, options.seed, options.false_per_hour):
            print(f"without {' and '.join(row.gone)}, {row.motions:.1f} of them a minute:")
            ways = ("thresholds alone", f"unknown: {'off' if row.unknown is None else row.unknown}")
            for way, recall, false in zip(ways, row.recalls, row.false_per_minute, strict=True):
                print(f"  {recall:6.1%} found, {false:5.2f} false events a minute  {way}", flush=True)
    except EngineError as error:
        print(f"unknown: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
