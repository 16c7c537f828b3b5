from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines import EngineSpec
from engines.build import build_model
from engines.networks import build_network

from .contract import settle

torch.set_num_threads(1)  # small networks: two threads wait for each other longer than they work

LABELS = ("still", "left", "right", "up", "down")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built model `small` (TCM, random weights): small.pt, small.onnx, small.json. Copy before changing."""
    torch.manual_seed(0)
    network = build_network("tcm", "resnet18", 8, len(LABELS), causal=True, width=0.25)
    settle(network)
    torch.nn.init.normal_(network.fc.weight, 0, 0.3)
    spec = EngineSpec(
        name="small", labels=LABELS, height=48, width=64, rate_hz=10.0, frames=8, mode="stream", fit="stretch",
        network="tcm", backbone="resnet18", channel_width=0.25, states=(), files={},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    build_model(network, spec, folder, steps=20)
    return folder


def moving_frames(count: int, rows: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Frames [rows, H, W, 3] of textures that drift, another in each row."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (rows, 20, 20, 3), np.uint8)
    texture = np.stack([cv2.resize(c, (200, 200), interpolation=cv2.INTER_CUBIC) for c in coarse]).astype(np.uint8)
    offsets = [(n % 120, 2 * n % 120) for n in range(count)]
    return [np.ascontiguousarray(texture[:, y : y + height, x : x + width]) for y, x in offsets]
