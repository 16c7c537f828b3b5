"""What a step of a stream costs, in OpenVINO with one thread in float32."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines import EngineSpec, load_engine
from engines.build.model import build_model
from engines.networks import Network
from engines.training.head import Look

STEPS = 60


def step_ms(network: Network, labels: Sequence[str], look: Look, options: dict[str, Any], name: str = "tsn") -> float:
    """The median step of one stream, milliseconds; of a network on a light backbone in causal form, built with these
    options.
    """
    spec = EngineSpec(
        name="step", labels=tuple(labels), height=look.size, width=look.size, rate_hz=look.rate_hz, frames=look.frames,
        mode="stream", fit="stretch", network=name, backbone=network.backbone, channel_width=1.0,
        options=options, states=(), files={},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        build_model(network, spec, Path(folder), steps=look.frames)  # it is timed, not installed
        engine = load_engine(Path(folder) / "step.onnx", threads=1, precision="fp32")
        state, active, fresh = engine.new_state(1), np.ones(1, np.bool_), np.zeros(1, np.bool_)
        frames = np.random.default_rng(0).integers(0, 256, (1, look.size, look.size, 3), np.uint8)
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            engine.step(frames, active, fresh, state)
            times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[look.frames :]))
