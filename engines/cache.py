"""What is made for one machine and can be made again: engines, exported graphs, the certificates of this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .errors import EngineError
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


def make_room(path: Path) -> Path:
    """Make the folder of a file of the cache; raises EngineError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise EngineError(
            f"{path.parent}: cannot be written: {error.strerror}; set ACTION_STREAMER_CACHE to a folder that can"
        ) from error
    return path
