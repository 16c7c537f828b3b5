"""Random weights with their sidecar, as a training run leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from engines import EngineSpec
from engines.networks import build_network
from engines.spec import sha256


def write_checkpoint(folder: Path, bias: float = 0.0, **changes: Any) -> Path:
    """`weights.pt` and `weights.json` of a tiny network for windows of 4 frames of 32x32; the first one's path.

    bias     of the first class
    changes  to the sidecar, and so to the network
    """
    path = folder / "weights.pt"
    spec = EngineSpec(
        name="weights", labels=("jump", "run", "walk"), height=32, width=32, rate_hz=10.0, frames=4, mode="window",
        fit="stretch", network="tsm", backbone="resnet18", channel_width=0.125, states=(), files={},
    )  # fmt: skip
    spec = msgspec.structs.replace(spec, **changes)
    torch.manual_seed(0)
    net = build_network(
        spec.network, spec.backbone, spec.frames, len(spec.labels), spec.mode == "stream", spec.channel_width
    )
    net.fc.bias.data[0] = bias
    torch.save(net.state_dict(), path)
    spec = msgspec.structs.replace(spec, files={path.name: sha256(path)})
    path.with_suffix(".json").write_bytes(msgspec.json.encode(spec))
    return path
