"""Reference outputs of the published implementations, and the parameters and clips that they were computed with.

Nothing large is stored: a parameter's value follows from its published name and shape, a clip from its seed.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One reference case: its settings, its parameters by published name, its clip, its outputs."""

    meta: dict[str, Any]
    state_dict: dict[str, Tensor]
    clip: Tensor
    outputs: dict[str, Tensor]


def load_case(name: str) -> Case:
    """Make a case from its stored shapes and logits; clip [batch, frames, 3, size, size], ImageNet-normalised RGB."""
    stored = json.loads((HERE / f"{name}.json").read_text())
    meta = stored["meta"]
    prefix = meta["checkpoint_prefix"]
    tensors = {prefix + key: parameter(key, shape) for key, shape in stored["parameters"].items()}
    with np.load(HERE / f"{name}.npz") as file:
        outputs = {key: torch.from_numpy(file[key]) for key in file.files}
    return Case(meta, tensors, make_clip(meta["clip_seed"], meta["frames"], meta["size"], meta["batch"]), outputs)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def parameter(name: str, shape: list[int]) -> Tensor:
    """The value that belongs to a name: He-scaled weights, norms near the identity, positive variances."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    noise = generator(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    value: Any
    if name.endswith("running_var"):
        value = 0.5 + np.abs(noise)
    elif len(shape) > 1:
        value = noise * np.float32(sqrt(2.0 / prod(shape[1:])))
    elif name.endswith("weight"):
        value = 1.0 + 0.1 * noise
    else:
        value = 0.1 * noise
    return torch.from_numpy(value.astype(np.float32))


def make_clip(seed: int, frames: int, size: int, batch: int) -> Tensor:
    """A smooth texture that moves by (2, 3) pixels a frame."""
    cells = size // 8 + 8
    coarse = torch.from_numpy(generator(seed).random((batch, 3, cells, cells)).astype(np.float32))
    texture = F.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    windows = [texture[:, :, 2 * t : 2 * t + size, 3 * t : 3 * t + size] for t in range(frames)]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (torch.stack(windows, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
