"""What is made for one machine and can be made again: engines, exported graphs, the certificates of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from .spec import EngineSpec


def cache_folder() -> Path:
    """$ACTION_STREAMER_CACHE, else action-streamer in $XDG_CACHE_HOME or ~/.cache. It need not exist."""
    given = os.environ.get("ACTION_STREAMER_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "action-streamer"


def engine_file(spec: EngineSpec, key: str) -> Path:
    """Where the TensorRT engine of a model with this key belongs; all in one folder, to share what was timed."""
    return cache_folder() / "tensorrt" / f"{spec.name}-{key}.engine"


def engine_sidecars(spec: EngineSpec) -> list[Path]:
    """The sidecars of engines that were built for models of this name."""
    return sorted((cache_folder() / "tensorrt").glob(f"{spec.name}-*.json"))


def local_graph(spec: EngineSpec, precision: str) -> Path:
    """Where a graph belongs that was exported for a build because the model came without."""
    return cache_folder() / "graphs" / f"{spec.version}.{precision}.onnx"


def local_sidecar(spec: EngineSpec) -> Path:
    """Where this machine's certificates of a model are, if not in the sidecar beside it."""
    return cache_folder() / "openvino" / f"{spec.version}.json"
