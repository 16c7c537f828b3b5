"""From the name of a model to a running engine: where models are, which backends this machine has, and why not the
others.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .base import Engine
from .errors import EngineError
from .scripted import ScriptedEngine, each_label_in_turn, read_script
from .spec import check_file, read_spec

WEIGHTS = Path(__file__).parent / "weights"
BACKENDS = ("openvino", "eager", "scripted")
SUFFIX = {"openvino": ".onnx", "eager": ".pt", "scripted": ".json"}
REMEDY = {"openvino": ("openvino", "pip install openvino"), "eager": ("torch", "pip install 'action-streamer[train]'")}


def find_models() -> dict[str, Path]:
    """The shipped models: name -> sidecar."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.json"))}


def why_not(backend: str) -> str | None:
    """None if the backend's library is installed, else what is missing and how to get it."""
    library, remedy = REMEDY.get(backend, ("", ""))
    if not library or importlib.util.find_spec(library) is not None:
        return None
    return f"{library} is not installed; {remedy}"


def load_engine(
    model: str | Path, backend: str = "auto", *, threads: int | None = None, precision: str = "auto"
) -> Engine:
    """Load a model: a shipped name ("default"), or a file `NAME.onnx`, `NAME.pt` with `NAME.json` beside it, or
    `NAME.scores.json`.

    backend    openvino, eager (torch), scripted (plays every label in turn), or auto: what the file is for, else
               openvino
    threads    CPU threads; None leaves one core free
    precision  openvino only: auto, fp32, bf16

    Raises EngineError, in one sentence, for everything that does not fit: no such model, no sidecar, another's
    sidecar, a file that is truncated or of another kind, a backend that is not installed.
    """
    path = Path(model)
    if path.name.endswith(".scores.json"):
        return read_script(path)
    shipped = find_models()
    if not path.suffix and path.parent == Path():
        if str(model) not in shipped:
            raise EngineError(
                f"no model is called {str(model)!r}; there are {', '.join(shipped) or 'none'}, "
                "or give the path of a .onnx or .pt file"
            )
        path = shipped[str(model)]
    if backend == "auto":
        backend = "eager" if path.suffix == ".pt" else "openvino"
    if backend not in BACKENDS:
        raise EngineError(f"unknown backend {backend!r}; known are auto, {', '.join(BACKENDS)}")
    if path.suffix not in (".json", SUFFIX[backend]) and backend != "scripted":
        raise EngineError(f"{path}: the {backend} backend runs {SUFFIX[backend]} files")
    missing = why_not(backend)
    if missing:
        raise EngineError(f"the {backend} backend cannot run here: {missing}")
    if not path.exists():
        raise EngineError(f"{path}: no such model file; `streamer models` lists the ones that are there")
    spec = read_spec(path)
    if backend == "scripted":
        return ScriptedEngine(spec, each_label_in_turn(len(spec.labels)))
    path = path.with_suffix(SUFFIX[backend])
    check_file(path, spec)
    if backend == "eager":
        from .eager import EagerEngine

        return EagerEngine(path, spec, threads)
    from .openvino import OpenVINOEngine

    return OpenVINOEngine(path, spec, threads=threads, precision=precision)
