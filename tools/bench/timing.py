"""Times that can be compared: everything in one run, in turns; medians and quartiles."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from engines import Engine
from tools.errors import ToolError

Key = TypeVar("Key")


@dataclass(frozen=True)
class Times:
    """How long one thing took, milliseconds: the median, the quartiles as its spread, and the 99th percentile."""

    median: float
    low: float
    high: float
    p99: float


def in_turns(runs: Mapping[Key, Callable[[], object]], order: list[Key], rounds: int) -> dict[Key, Times]:
    """Time what `order` names in each round, some of it more than once, shuffled anew each time: whatever else the
    machine does, and what one leaves in the caches for the next, hits all alike. One round more, which does not count,
    comes first.
    """
    order, shuffle = list(order), random.Random(0).shuffle
    times: dict[Key, list[float]] = {key: [] for key in runs}
    for n in range(rounds + 1):
        shuffle(order)
        for key in order:
            started = time.perf_counter()
            runs[key]()
            if n:
                times[key].append((time.perf_counter() - started) * 1e3)
    return {key: Times(*(float(q) for q in np.percentile(values, [50, 25, 75, 99]))) for key, values in times.items()}


def stepping(engine: Engine, rows: int) -> Callable[[], None]:
    """A step of `rows` streams with all of them active, on noise. Raises ToolError if a network makes no numbers of
    it.
    """
    spec = engine.spec
    frames = np.random.default_rng(0).integers(0, 256, (rows, spec.height, spec.width, 3), np.uint8)
    active, fresh, state = np.ones(rows, np.bool_), np.zeros(rows, np.bool_), engine.new_state(rows)
    logits, _ = engine.step(frames, active, fresh, state)
    if not np.isfinite(logits).all():
        raise ToolError(f"{spec.name} in {engine.device}: the logits are not finite, so its time means nothing")

    def step() -> None:
        engine.step(frames, active, fresh, state)

    return step
