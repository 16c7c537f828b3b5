"""A step graph -> the engine file of one GPU and one version of TensorRT.

`serialize` is told which module to use: `tensorrt` on a machine with a GPU, or `tensorrt_rtx`, which has the interface
of TensorRT 11 and builds without a GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from .. import files
from ..errors import EngineError, install
from ..spec import FLOAT32_NODE, STATE_OUT, EngineFacts, EngineSpec, Precision
from .cuda import Device

LOGGER = logging.getLogger(__name__)
REBUILD = "build it again on this machine: streamer build MODEL --backend tensorrt"
WORKSPACE = 0.5  # of the memory that is free now: on a Jetson it is all that the system has
WITHOUT_PRECISION = ("CONSTANT", "CONCATENATION", "SHAPE", "CAST")  # layers of 8.6 that cannot be told theirs
REAL = ("FLOAT", "HALF")


class BuildError(EngineError):
    """TensorRT has no engine for a graph that it could read; it may have one in another precision."""


def load_tensorrt() -> ModuleType:
    """TensorRT's module; raises EngineError if it is not installed or its libraries cannot be loaded."""
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise EngineError(f"TensorRT is installed in part ({error}); {install('tensorrt')}") from error
        raise EngineError(f"TensorRT is not installed; {install('tensorrt')}") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"TensorRT is installed, but its libraries cannot be loaded ({error}); install it again, all parts of one "
            f"version: {install('tensorrt')}"
        ) from error
    return tensorrt  # type: ignore[no-any-return]


def usable(make: Callable[[], Any]) -> Any:
    """What `make` makes; raises EngineError where TensorRT has no GPU to make it on."""
    try:
        return make()
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        raise EngineError(
            "TensorRT finds no usable driver or GPU; `nvidia-smi` must list one, and its CUDA must not be older than "
            "the one that this TensorRT is for"
        ) from error


def make_log(trt: ModuleType) -> Any:
    """A logger for TensorRT whose `reason()` is what it complained of last."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=3)
            self.warnings: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, message: str) -> None:
            LOGGER.debug("%s: %s", severity.name, message)
            if severity.name in {"INTERNAL_ERROR", "ERROR"}:
                self.errors.append(message.strip())
            elif severity.name == "WARNING":
                self.warnings.append(message.strip())

        def forget(self) -> None:
            """Begin anew: what was said before is not the reason of what comes."""
            self.errors.clear()
            self.warnings.clear()

        def reason(self) -> str:
            """The last errors since `forget`, or the last warnings if there are none."""
            return "; ".join(self.errors or self.warnings) or "it gives no reason"

    return Log()


def check_driver(trt: ModuleType, gpu: Device) -> None:
    """Raise EngineError if TensorRT's wheels are for a newer CUDA than the driver knows: it would fail elsewhere."""
    for cuda in (13, 12):
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.distribution(f"tensorrt-cu{cuda}-libs")
            if int(gpu.driver.partition(".")[0]) < cuda:
                raise EngineError(
                    f"TensorRT {trt.__version__} is for CUDA {cuda}, but the NVIDIA driver knows CUDA {gpu.driver} "
                    "only: update the driver (CUDA 13 needs 580 or newer, CUDA 12 needs 525), or take the TensorRT of "
                    "its CUDA: pip uninstall tensorrt, pip install tensorrt-cu12"
                )
            return


def machine_facts(*, rows: int, precision: Precision) -> EngineFacts:
    """What an engine that is built here and now is built for; raises EngineError where none can be."""
    trt, gpu = load_tensorrt(), Device()
    check_driver(trt, gpu)
    return EngineFacts(trt.__version__, gpu.name, gpu.compute_capability, gpu.driver, precision, rows)


def cache_key(digest: str, facts: EngineFacts) -> str:
    """A name for the engine that `facts` has of the graph with this SHA-256, 16 hex digits; another graph, version of
    TensorRT, GPU, driver, precision or number of rows has another.
    """
    return hashlib.sha256(digest.encode() + msgspec.json.encode(facts)).hexdigest()[:16]


def build_engine(
    graph: Path, spec: EngineSpec, out: Path, *, rows: int, precision: Precision, progress: Callable[[str], None]
) -> EngineFacts:
    """Build an ONNX step graph for the first GPU of this machine; takes seconds to minutes.

    graph      of `precision`, its rows free or `rows`
    spec       the model's sidecar
    out        the engine file; it appears whole or not at all. What was timed is kept beside it for the next build
    progress   is told each phase

    Returns what the engine was built for, which belongs into its sidecar. Raises BuildError for a graph that TensorRT
    reads and cannot build; EngineError for a machine that cannot build, a graph that cannot be parsed, and one that is
    not the sidecar's.
    """
    facts = machine_facts(rows=rows, precision=precision)
    timings = out.with_name(f"tensorrt-{facts.tensorrt}-{facts.compute_capability}.timings")
    progress(f"TensorRT {facts.tensorrt} builds {graph.name} for {facts.gpu}, {precision}, {rows} rows")
    workspace = int(Device().free_bytes() * WORKSPACE)
    plan = serialize(
        load_tensorrt(), graph, spec,
        rows=rows, precision=precision, progress=progress, timings=timings, workspace=workspace,
    )  # fmt: skip
    write_whole(out, plan)
    progress(f"{out} is built, {len(plan) / 1e6:.1f} MB")
    return facts


def serialize(
    trt: ModuleType,
    graph: Path,
    spec: EngineSpec,
    *,
    rows: int,
    precision: Precision,
    progress: Callable[[str], None],
    timings: Path | None = None,
    workspace: int | None = None,
) -> bytes:
    """The engine of a step graph, as bytes. `timings` is a file that remembers what was timed; None remembers nothing.
    `workspace` bounds the memory that a layer may take while it is tried and run, bytes; None leaves all of it.

    TensorRT 10 and 11 take every type as the graph has it. 8.6 chooses by speed, float16 among others if it is
    allowed: there the nodes that the graph marks as float32 are pinned. No version may take TF32 for float32.
    """
    log = make_log(trt)
    builder = usable(lambda: trt.Builder(log))
    flags = trt.NetworkDefinitionCreationFlag
    typed = hasattr(flags, "STRONGLY_TYPED")
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED if typed else flags.EXPLICIT_BATCH))
    parse(trt, network, graph, log)
    fix_rows(network, graph, rows)
    ends = [network.get_input(index) for index in range(network.num_inputs)]
    ends += [network.get_output(index) for index in range(network.num_outputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in ends}
    check_tensors(graph, spec, rows, shapes, {tensor.name: tensor.dtype.name for tensor in ends})
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if not typed:
        use_own_kernels(trt, config)
        if precision == "fp16":
            config.set_flag(trt.BuilderFlag.FP16)
            pin_float32(trt, network, config)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = make_monitor(trt, progress)
    if timings is not None:
        remember_timings(config, timings)
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    log.forget()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{graph}: TensorRT {trt.__version__} cannot build this graph: {log.reason()}")
    if timings is not None:
        write_whole(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def parse(trt: ModuleType, network: Any, graph: Path, log: Any) -> None:
    """Read a graph into a network; raises EngineError that names the node which TensorRT cannot read."""
    parser = trt.OnnxParser(network, log)
    if parser.parse(read_whole(graph)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = []
    for error in errors:
        name = f" {error.node_name()} ({error.node_operator()})" if hasattr(error, "node_name") else ""
        told.append(f"node {error.node()}{name}: {error.desc()}" if error.node() >= 0 else error.desc())
    raise EngineError(
        f"{graph}: TensorRT {trt.__version__} cannot read this graph: {'; '.join(told) or log.reason()}; export the "
        "model again with this version of action-streamer, or update TensorRT"
    )


def fix_rows(network: Any, graph: Path, rows: int) -> None:
    """Give the inputs their number of rows where the graph leaves it free."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        first, *rest = tensor.shape
        if first == -1:
            tensor.shape = (rows, *rest)
        elif first != rows:
            raise EngineError(f"{graph}: is a graph of {first} rows and cannot be built for {rows}; export it again")


def own_name(tensor: str, spec: EngineSpec) -> str:
    """Our name of an engine's tensor. They are the same but in an engine that torch-tensorrt made, which numbers them:
    state_0, ..., and output0, ....
    """
    states = [state.name for state in spec.states]
    outputs = ["logits", "ready", *(name + STATE_OUT for name in states)]
    numbered = {f"state_{index}": name for index, name in enumerate(states)}
    numbered |= {f"output{index}": name for index, name in enumerate(outputs)}
    return numbered.get(tensor, tensor)


def check_tensors(
    path: Path, spec: EngineSpec, rows: int, shapes: dict[str, tuple[int, ...]], types: dict[str, str]
) -> None:
    """Raise EngineError unless the inputs and outputs, and their types by TensorRT's names, are those of a step."""
    expected: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
        "frames": ((rows, spec.height, spec.width, 3), ("UINT8",)),
        "active": ((rows,), ("BOOL",)),
        "fresh": ((rows,), ("BOOL",)),
        "logits": ((rows, len(spec.labels)), ("FLOAT",)),
        "ready": ((rows,), ("BOOL",)),
    }
    for state in spec.states:
        for name in (state.name, state.name + STATE_OUT):
            expected[name] = ((rows, *state.shape), ("FLOAT", "HALF"))
    for name in sorted(expected.keys() | shapes.keys()):
        shape, allowed = expected.get(name, (None, ()))
        if shapes.get(name) != shape or types.get(name) not in allowed:
            raise EngineError(
                f"{path}: is not the step of {spec.name} with {rows} rows: {name} is {types.get(name, 'not there')} "
                f"{list(shapes.get(name, ()))}, and should be {' or '.join(allowed) or 'not there'} {list(shape or ())}"
            )


def use_own_kernels(trt: ModuleType, config: Any) -> None:
    """8.6: do without cuDNN and cuBLAS, which it does not bring along."""
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
    config.set_preview_feature(trt.PreviewFeature.DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805, True)


def pin_float32(trt: ModuleType, network: Any, config: Any) -> None:
    """8.6: have the nodes that the graph marks computed in float32 in a network that may use float16.

    A layer that takes or gives conditions or indices is not told a type: no kernel has such a one in float32, and the
    whole build fails for it.
    """
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if FLOAT32_NODE in layer.name and layer.type.name not in WITHOUT_PRECISION and is_real(layer):
            layer.precision = trt.DataType.FLOAT
            for index in range(layer.num_outputs):
                layer.set_output_type(index, trt.DataType.FLOAT)


def is_real(layer: Any) -> bool:
    """Whether all that a layer takes and gives are real numbers; an input that it may have and lacks is None."""
    ends = [layer.get_input(index) for index in range(layer.num_inputs)]
    ends += [layer.get_output(index) for index in range(layer.num_outputs)]
    return all(tensor.dtype.name in REAL for tensor in ends if tensor is not None)


def make_monitor(trt: ModuleType, progress: Callable[[str], None]) -> Any:
    """A progress monitor (TensorRT 10 and later) that tells the outermost phases."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                progress(f"{phase}: {steps} steps")

        def phase_finish(self, phase: str) -> None: ...

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            return True

    return Monitor()


def remember_timings(config: Any, timings: Path) -> None:
    """Let a build use what earlier builds timed; a file that does not fit is forgotten."""
    stored = timings.read_bytes() if timings.is_file() else b""
    cache = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def read_whole(path: Path) -> bytes:
    """The content of a file; raises EngineError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that others see whole or not at all; raises EngineError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, content)
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror}") from error
