from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from engines import EngineSpec

from .build.installs import empty_cache, gpu, model  # noqa: F401 - fixtures
from .toy_engine import cuda, trt  # noqa: F401 - fixtures

LABELS = ("still", "left", "right", "up", "down")


def make_model(folder: Path, name: str, network: str, backbone: str, **options: Any) -> EngineSpec:
    """Build a model with random weights whose logits are neither flat nor extreme; options: mode, hop, steps, half,
    and those of the network.
    """
    torch = pytest.importorskip("torch")
    from engines.build.model import build_model
    from engines.networks import build_network

    from .networks.contract import settle

    mode, hop, steps = options.pop("mode", "stream"), options.pop("hop", 1), options.pop("steps", 24)
    half = options.pop("half", False)
    net = build_network(network, backbone, 8, len(LABELS), mode == "stream", width=0.25, **options)
    settle(net)
    with torch.no_grad():
        net.fc.weight.mul_(2 / net.frame_logits(torch.randn(1, 8, 3, 48, 64)).std())
    spec = EngineSpec(
        name=name, labels=LABELS, height=48, width=64, rate_hz=10.0, frames=8, mode=mode, fit="stretch",
        network=network, backbone=backbone, channel_width=0.25, states=(), files={}, hop=hop, options=options,
    )  # fmt: skip
    return build_model(net, spec, folder, steps=steps, half=half)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two built models with random weights, each .pt, .onnx and .json: `small` (TCM, a stream) and `window` (TSM). Copy
    before changing.
    """
    return made_once(tmp_path_factory, "model", make_models)


def make_models(folder: Path) -> None:
    make_model(folder, "small", "tcm", "resnet18")
    make_model(folder, "window", "tsm", "resnet18", mode="window")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of the test processes of a session makes for all: an export takes many seconds."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = factory.mktemp(name)
            make(part)
            part.rename(folder)
    return folder


def assert_alike(found: ArrayLike, expected: ArrayLike) -> None:
    """The same answers but for the last digits: by where a tensor lies, libraries may choose other kernels."""
    assert np.abs(np.subtract(found, expected)).max() <= 1e-2 * np.abs(expected).max()


def moving_frames(count: int, rows: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Frames [rows, H, W, 3] of textures that drift, another in each row."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (rows, 20, 20, 3), np.uint8)
    texture = np.stack([cv2.resize(c, (200, 200), interpolation=cv2.INTER_CUBIC) for c in coarse]).astype(np.uint8)
    offsets = [(n % 120, 2 * n % 120) for n in range(count)]
    return [np.ascontiguousarray(texture[:, y : y + height, x : x + width]) for y, x in offsets]
