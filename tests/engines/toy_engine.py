"""A toy network on a fake GPU with a fake TensorRT: the fixtures `cuda` and `trt`, and how its engine is built."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import EngineSpec, TensorSpec
from engines.backends.tensorrt import build_engine
from engines.spec import STATE_OUT

from .backends.fake_cuda import FakeDriver
from .backends.fake_tensorrt import Arrays, FakeTensorRT, step_tensors

SPEC = EngineSpec(
    name="toy", labels=("a", "b", "c"), height=4, width=6, rate_hz=10.0, frames=3, mode="stream", fit="stretch",
    network="toy", backbone="none", channel_width=1.0, files={},
    states=(TensorSpec("sum", (2,), "float32"), TensorSpec("seen", (), "float32")),
)  # fmt: skip


def toy(inputs: Arrays) -> Arrays:
    """A network that adds up its frames' means (times 1 and 2) and counts them."""
    active, fresh = inputs["active"], inputs["fresh"]
    before = np.where(fresh[:, None], 0, inputs["sum"])
    total = before + inputs["frames"].mean((1, 2, 3))[:, None] * np.array([1, 2])
    seen = np.where(fresh, 0, inputs["seen"]) + 1
    kept = np.where(active, seen, inputs["seen"])
    return {
        "logits": np.concatenate([total, seen[:, None]], 1),
        "ready": kept >= SPEC.frames,
        "sum" + STATE_OUT: np.where(active[:, None], total, inputs["sum"]),
        "seen" + STATE_OUT: kept,
    }


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    monkeypatch.setattr("engines.backends.cuda.load_driver", lambda: driver)
    return driver


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeDriver, version: str = "10.3.0") -> FakeTensorRT:
    module = FakeTensorRT(version, cuda, toy)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeDriver) -> FakeTensorRT:
    return install(monkeypatch, cuda)


def write_graph(folder: Path, rows: int = -1, **more: Any) -> Path:
    path = folder / "toy.fp16.onnx"
    path.write_text(json.dumps(step_tensors(SPEC, rows) | more))
    return path


def build(folder: Path, rows: int = 2, **options: Any) -> tuple[Path, EngineSpec]:
    """An engine file, and the sidecar that belongs to it."""
    graph, out = options.pop("graph", None) or write_graph(folder), folder / "toy.engine"
    told = options.pop("progress", print)
    facts = build_engine(graph, SPEC, out, rows=rows, precision=options.pop("precision", "fp16"), progress=told)
    return out, msgspec.structs.replace(SPEC, engine=facts)


def flags(*values: bool) -> NDArray[np.bool_]:
    return np.array(values)


def grey(*levels: int) -> NDArray[np.uint8]:
    """A frame of one grey for each row."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 4, 6, 3)).copy()
