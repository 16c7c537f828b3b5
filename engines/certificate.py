"""The proof that an engine computes what the eager network does."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from .base import Engine, probabilities
from .errors import EngineError
from .spec import Certificate

LIMITS = {"fp32": 1e-3, "bf16": 2e-2}  # of the difference in a probability


def certify(reference: Engine, engine: Engine, precision: Literal["fp32", "bf16"], steps: int) -> Certificate:
    """Run both over the same moving frames, one row, three starts, and compare (in window mode, what is `ready`).

    Raises EngineError if a probability differs by more than 1e-3 (fp32) or 2e-2 (bf16).
    """
    spec = reference.spec
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 32, 3), np.uint8)
    texture = cv2.resize(coarse, (2 * spec.width, 2 * spec.height), interpolation=cv2.INTER_CUBIC)
    state, other = reference.new_state(1), engine.new_state(1)
    active = np.ones(1, np.bool_)
    worst, agree, compared = 0.0, 0, 0
    for n in range(steps):
        y, x = (3 * n) % spec.height, (5 * (n // 16) + n) % spec.width  # drifts, and jumps now and then
        frame = np.ascontiguousarray(texture[None, y : y + spec.height, x : x + spec.width], np.uint8)
        fresh = np.array([n % (steps // 3 + 1) == 0])
        p, ready = reference.step(frame, active, fresh, state)
        q, _ = engine.step(frame, active, fresh, other)
        if spec.mode == "window" and not ready[0]:
            continue
        compared += 1
        worst = max(worst, float(np.abs(probabilities(p) - probabilities(q)).max()))
        agree += int(p.argmax() == q.argmax())
    if worst > LIMITS[precision]:
        raise EngineError(
            f"{engine.backend} in {precision} differs from the eager network by {worst:.2g} in a probability, "
            f"more than the {LIMITS[precision]:g} that is allowed"
        )
    if not compared:
        raise ValueError(f"{steps} steps are too few: no window of {spec.frames} frames was full after a start")
    return Certificate(engine.backend, precision, compared, worst, agree / compared)
