"""Whether steps that are replayed as CUDA graphs answer as the same steps do when they are queued call by call."""

from __future__ import annotations

import numpy as np

from ..base import Engine

STEPS = 60
LIMIT = 1e-3  # of the logits' scale; the same kernels on the same numbers differ by nothing, wrong addresses by all


def graph_difference(engine: Engine, rows: int, steps: int = STEPS) -> float | None:
    """The largest difference of a logit or a state between the two ways, as a part of their scale, over noise with
    pauses and new starts; None for an engine that captures no graphs.
    """
    if not getattr(engine, "graphs", False):
        return None
    spec, rng = engine.spec, np.random.default_rng(2)
    replayed = engine.new_state(rows)
    if not getattr(engine, "graphs", False):  # they could not be captured here
        return None
    try:
        engine.graphs = False  # type: ignore[attr-defined]
        plain = engine.new_state(rows)
    finally:
        engine.graphs = True  # type: ignore[attr-defined]
    worst = scale = 0.0
    for _ in range(steps):
        frames = rng.integers(0, 256, (rows, spec.height, spec.width, 3), np.uint8)
        active, fresh = rng.random(rows) < 0.8, rng.random(rows) < 0.1
        one, two = (engine.step(frames, active, fresh, state)[0][active].copy() for state in (replayed, plain))
        worst, scale = max(worst, _apart(one, two)), max(scale, float(np.abs(two).max(initial=0)))
    after = plain.snapshot()
    states = [
        _apart(value, after[name]) / max(float(np.abs(after[name]).max()), 1e-9)
        for name, value in replayed.snapshot().items()
    ]
    return max(worst / max(scale, 1e-9), *states, 0.0)


def _apart(one: np.ndarray, two: np.ndarray) -> float:
    """The largest difference; infinite where one is no number."""
    gap = np.abs(one.astype(np.float64) - two)
    return float(np.where(np.isfinite(gap), gap, np.inf).max(initial=0))
