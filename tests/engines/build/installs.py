"""What the tests of builds share: a model, a cache, a fake GPU whose steps OpenVINO computes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import engines.build.install
import engines.loading
from engines.backends.openvino import core
from engines.build.install import Installed, build_for_here
from engines.spec import read_spec, sha256, write_spec

from ..backends.fake_cuda import FakeDriver
from ..backends.fake_tensorrt import Arrays, FakeTensorRT, step_tensors

STEPS = 12


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model with a name of its own, without certificates, with an "fp16 graph" for the fake."""
    folder, shipped = tmp_path / "models", engines.loading.WEIGHTS / "default.json"
    folder.mkdir()
    spec = read_spec(shipped)
    for kind in ("pt", "onnx"):
        shutil.copy(shipped.with_suffix(f".{kind}"), folder / f"mine.{kind}")
    graph = folder / "mine.fp16.onnx"
    graph.write_text(json.dumps(step_tensors(spec, -1)))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_spec(folder / "mine.json", msgspec.structs.replace(spec, name="mine", files=files, certificates=()))
    return folder / "mine.onnx"


def quiet(line: str) -> None:
    """Tells nobody."""


def build(model: str | Path, backend: str, *told: list[str], **options: Any) -> Installed:
    settings: dict[str, Any] = {"steps": STEPS, "progress": told[0].append if told else quiet}
    return build_for_here(model, backend, **settings | options)


class Gpu:
    """A fake GPU and TensorRT; `error` is added to every logit of the last label."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error, self.compiled = 0.0, {}  # type: ignore[var-annotated]
        self.graph = engines.loading.WEIGHTS / "default.onnx"
        self.cuda = FakeDriver()
        monkeypatch.setattr("engines.backends.cuda.load_driver", lambda: self.cuda)
        self.tensorrt = FakeTensorRT("10.3.0", self.cuda, self.compute)
        self.tensorrt.__spec__ = importlib.util.spec_from_loader("tensorrt", None)
        monkeypatch.setitem(sys.modules, "tensorrt", self.tensorrt)
        monkeypatch.setattr(engines.loading, "no_gpu", lambda: None)

    def compute(self, inputs: Arrays) -> Arrays:
        rows = len(inputs["frames"])
        if rows not in self.compiled:
            graph = core().read_model(self.graph)
            graph.reshape({port.any_name: [rows, *list(port.partial_shape)[1:]] for port in graph.inputs})
            options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
            self.compiled[rows] = core().compile_model(graph, "CPU", options)
        states = {name: value.astype(np.float32) for name, value in inputs.items() if value.dtype.kind == "f"}
        found = {out.any_name: value for out, value in self.compiled[rows](inputs | states).items()}
        logits = found["logits"].copy()
        logits[:, -1] += self.error
        return found | {"logits": logits}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
