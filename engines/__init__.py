"""Networks, and the runtimes that run them: `load_engine(name or file)` gives an `Engine`, whatever the backend.

    engine = load_engine("default")
    state = engine.new_state(rows=1)
    logits, ready = engine.step(frames, active, fresh, state)

Frames are uint8 [rows, H, W, 3] in BGR, at the rate that the model was trained at. docs/tasks/use_a_model.md has the
whole loop.
"""

from __future__ import annotations

from .base import Engine, EngineState, probabilities
from .errors import EngineError
from .loading import BACKENDS, find_models, load_engine
from .spec import EngineSpec, TensorSpec

__all__ = [
    "BACKENDS",
    "Engine",
    "EngineError",
    "EngineSpec",
    "EngineState",
    "TensorSpec",
    "find_models",
    "load_engine",
    "probabilities",
]
