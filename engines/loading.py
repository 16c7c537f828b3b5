"""From the name of a model to a running engine: where models are, which backends this machine has, and why not the
others.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from .backends.scripted import HOLD_STEPS, ScriptedEngine, each_label_in_turn, read_script
from .base import Engine
from .cache import engine_sidecars, local_sidecar
from .errors import EngineError, install, unknown
from .spec import Certificate, EngineFacts, EnginePrecision, EngineSpec, Precision, check_file, is_file, read_spec

LOGGER = logging.getLogger(__name__)
WEIGHTS = Path(__file__).parent / "weights"
BACKENDS = ("openvino", "tensorrt", "eager", "scripted")
SUFFIX = {"openvino": ".onnx", "tensorrt": ".engine", "eager": ".pt", "scripted": ".json"}
BUILT_IN: tuple[Precision, ...] = ("fp16", "fp32")  # TensorRT's precisions, the fast one first
PRECISIONS: dict[str, tuple[EnginePrecision, ...]] = {
    "openvino": ("fp32", "bf16"),
    "tensorrt": BUILT_IN,
    "eager": ("fp32", "fp16"),
}
REMEDY: dict[str, tuple[str, Callable[[], str]]] = {
    "openvino": ("openvino", lambda: "pip install openvino"),
    "tensorrt": ("tensorrt", lambda: install("tensorrt")),
    "eager": ("torch", lambda: install("train")),
}


def find_models() -> dict[str, Path]:
    """The shipped models: name -> sidecar."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.json"))}


def find_model(model: str | Path) -> Path:
    """A file of a model, given by its shipped name or by any of its files; raises EngineError if there is none."""
    path, shipped = Path(model), find_models()
    if not path.suffix and path.parent == Path():
        if str(model) not in shipped:
            raise EngineError(
                f"no model is called {str(model)!r}; there are {', '.join(shipped) or 'none'}, "
                "or give the path of a .onnx or .pt file"
            )
        path = shipped[str(model)]
    return path


def no_gpu() -> str | None:
    """None if the NVIDIA driver sees a GPU, else what is missing. Asks the driver itself, without CUDA or torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is here (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver sees no GPU; `nvidia-smi` must list one"
    return None


def why_not(backend: str) -> str | None:
    """None if the backend can run here, else what is missing and how to get it."""
    library, remedy = REMEDY.get(backend, ("", str))
    if library and importlib.util.find_spec(library) is None:
        return f"{library} is not installed; {remedy()}"
    return no_gpu() if backend == "tensorrt" else None


def read_local_spec(path: Path) -> EngineSpec:
    """The sidecar of a model file, with the certificates that `streamer build` made on this machine, if any."""
    spec = read_spec(path)
    local = local_sidecar(spec)
    if spec.engine is None and is_file(local):
        return msgspec.structs.replace(spec, certificates=read_spec(local).certificates)
    return spec


def load_engine(
    model: str | Path,
    backend: str = "auto",
    *,
    threads: int | None = None,
    precision: str = "auto",
    rows: int = 1,
    graphs: bool = True,
) -> Engine:
    """Load a model: a shipped name ("default"), or a file `NAME.onnx`, `NAME.pt`, `NAME.engine` with `NAME.json`
    beside it, or `NAME.scores.json`.

    backend    openvino, tensorrt (an engine that `streamer build` made), eager (torch), scripted (plays every label in
               turn), or auto: what a .pt or .engine file is for, else the best that this machine has; the engine's
               `why` tells the reason
    threads    CPU threads; None leaves one core free
    precision  auto, or one of PRECISIONS[backend]
    rows       the most streams that there will be, as far as one knows: which of several TensorRT engines to take
    graphs     on a GPU, replay the steps as CUDA graphs where they can be; False: never

    Raises EngineError, in one sentence, for everything that does not fit: no such model, no sidecar, another's
    sidecar, a file that is truncated or of another kind, a backend that is not installed.
    """
    if str(model).endswith(".scores.json"):
        return read_script(Path(model))
    path = find_model(model)
    why = ""
    if backend == "auto":
        backend, why = choose_backend(path, precision, rows)
    check_can_run(path, backend, precision)
    spec = read_local_spec(path)
    if backend == "scripted":
        return ScriptedEngine(spec, each_label_in_turn(len(spec.labels), 1), hold=HOLD_STEPS)
    if backend == "tensorrt" and path.suffix != ".engine":
        path = find_built(path, spec, precision, rows)
        spec = msgspec.structs.replace(read_spec(path), events=spec.events)  # they may have been tuned since
    path = path.with_suffix(SUFFIX[backend])
    check_file(path, spec)
    engine = make_engine(path, spec, backend, threads, precision, graphs=graphs)
    engine.why = why
    warn_of(engine)
    return engine


def check_can_run(path: Path, backend: str, precision: str) -> None:
    """Raise EngineError unless the backend can run here, in this precision, and such a file, which is there."""
    if backend not in BACKENDS:
        raise unknown("backend", backend, ("auto", *BACKENDS))
    if precision not in ("auto", *PRECISIONS.get(backend, (precision,))):
        raise EngineError(f"the {backend} backend computes in {' or '.join(PRECISIONS[backend])}, not in {precision}")
    source = (".json", ".onnx") if backend == "tensorrt" else (".json",)
    if path.suffix not in (*source, SUFFIX[backend]) and backend != "scripted":
        raise EngineError(f"{path}: the {backend} backend runs {SUFFIX[backend]} files")
    if missing := why_not(backend):
        raise EngineError(f"the {backend} backend cannot run here: {missing}")
    if not is_file(path):
        raise EngineError(f"{path}: no such model file; `streamer models` lists the ones that are there")


def make_engine(
    path: Path, spec: EngineSpec, backend: str, threads: int | None, precision: str, *, graphs: bool = True
) -> Engine:
    """The engine of a file that was checked."""
    if backend == "eager":
        from .backends.eager import EagerEngine

        return EagerEngine(path, spec, threads, precision="fp16" if precision == "fp16" else "fp32", graphs=graphs)
    if backend == "tensorrt":
        from .backends.tensorrt import TensorRTEngine

        return TensorRTEngine(path, spec, graphs=graphs)
    from .backends.openvino import OpenVINOEngine

    return OpenVINOEngine(path, spec, threads=threads, precision=precision)


def choose_backend(path: Path, precision: str, rows: int) -> tuple[str, str]:
    """The best backend for a model file on this machine, and why: TensorRT, torch on the GPU, OpenVINO."""
    if path.suffix in (".pt", ".engine"):
        return ("eager" if path.suffix == ".pt" else "tensorrt"), f"it is what {path.suffix} files are for"
    if no_gpu():
        return "openvino", "no NVIDIA GPU found"
    tensorrt = no_tensorrt(path, precision, rows)
    if tensorrt is None:
        return "tensorrt", "it is installed, and an engine is built for this GPU"
    eager = no_torch_on_gpu(path, precision)
    if eager is None:
        return "eager", f"torch sees a GPU, and TensorRT cannot be used: {tensorrt}"
    return "openvino", f"TensorRT cannot be used: {tensorrt}; nor torch: {eager}"


def no_tensorrt(path: Path, precision: str, rows: int) -> str | None:
    """None if TensorRT can run a model here and now, else why not."""
    if missing := why_not("tensorrt"):
        return missing
    if precision not in ("auto", *PRECISIONS["tensorrt"]):
        return f"it does not compute in {precision}"
    try:
        find_built(path, read_spec(path), precision, rows)
    except EngineError as error:
        return str(error)
    return None


def no_torch_on_gpu(path: Path, precision: str) -> str | None:
    """None if torch can run a model on the GPU, else why not. Loads torch, which takes seconds."""
    if missing := why_not("eager"):
        return missing
    if precision not in ("auto", *PRECISIONS["eager"]):
        return f"it does not compute in {precision}"
    if not is_file(path.with_suffix(".pt")):
        return f"torch needs {path.stem}.pt beside {path.name}"
    import torch

    return None if torch.cuda.is_available() else f"torch {torch.__version__} does not see the GPU"


def find_built(path: Path, spec: EngineSpec, precision: str, rows: int) -> Path:
    """The TensorRT engine that was built here for a model: in the precision (auto: fp16, else fp32), and for as few
    rows as do.

    Raises EngineError with the command that builds one if there is none.
    """
    from .backends.tensorrt import machine_facts

    wanted = [kind for kind in BUILT_IN if precision in ("auto", kind)]
    here = machine_facts(rows=rows, precision=wanted[0])
    others, fitting = [], []
    for sidecar in engine_sidecars(spec):
        facts = built_for(sidecar, spec)
        if facts is None:
            continue
        own = msgspec.structs.replace(facts, rows=rows, precision=wanted[0], graphs=True) == here
        if own and facts.precision in wanted and facts.rows >= rows:
            fitting.append((wanted.index(facts.precision), facts.rows, sidecar))
        else:
            others.append(facts)
    if fitting:
        return min(fitting)[-1].with_suffix(".engine")
    model = spec.name if path.parent == WEIGHTS else str(path)
    there = "".join(
        f"; there is one in {o.precision} for {o.rows} rows, TensorRT {o.tensorrt}, {o.gpu}" for o in others
    )
    raise EngineError(
        f"no engine is built for {spec.name} in {' or '.join(wanted)}, {rows} row{'s' if rows > 1 else ''}, TensorRT "
        f"{here.tensorrt} and {here.gpu} with this driver{there}; build it, which takes some minutes: "
        f"streamer build {model} --backend tensorrt --precision {wanted[0]} --rows {rows}"
    )


def built_for(sidecar: Path, spec: EngineSpec) -> EngineFacts | None:
    """What an engine was built for; None if it is of another model, or no engine's sidecar."""
    try:
        built = read_spec(sidecar)
    except EngineError:
        return None
    return built.engine if spec.files.items() <= built.files.items() else None


def precision_of(engine: Engine) -> EnginePrecision:
    """What an engine computes in: one of the comma-separated facts that `device` tells."""
    found = set(engine.device.split(", "))
    precision: EnginePrecision
    for precision in ("fp32", "bf16", "fp16", "int8"):
        if precision in found:
            return precision
    return "fp32"


def certificate_of(engine: Engine) -> Certificate | None:
    """The certificate for what an engine does, if there is one."""
    key = (engine.backend, precision_of(engine))
    return next((c for c in engine.spec.certificates if (c.backend, c.precision) == key), None)


def warn_of(engine: Engine) -> None:
    """Warn of an engine whose answers may differ from the eager network's."""
    if precision_of(engine) == "fp32" and engine.backend != "tensorrt":
        return
    certificate = certificate_of(engine)
    fault = certificate.fault if certificate else "nobody has compared it with the eager network"
    if fault:
        LOGGER.warning(
            "%s runs in %s on %s without a certificate that holds: %s; its answers may be wrong (`streamer verify` "
            "measures how far)",
            engine.spec.name,
            precision_of(engine),
            engine.backend,
            fault,
        )
