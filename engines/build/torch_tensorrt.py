"""The second way to an engine file: torch-tensorrt reads the exported program itself, without ONNX.

It needs a torch with CUDA and exactly the versions of torch and TensorRT that its release was made with. The file runs
in `TensorRTEngine` as any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..backends.tensorrt_build import machine_facts, write_whole
from ..errors import EngineError
from ..networks import Network
from ..spec import EngineFacts, EngineSpec, Precision
from .export import example_inputs, make_step

OPTIONS = {"disable_tf32": True, "require_full_compilation": True}
OTHERWISE = "or build through ONNX, which needs neither: --via onnx"


def load_converter() -> Callable[..., bytes]:
    """torch-tensorrt's function from an exported program to an engine; raises EngineError if it cannot be used."""
    try:
        import torch_tensorrt

        convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    except ModuleNotFoundError as error:
        if error.name != "torch_tensorrt":
            raise EngineError(
                f"torch-tensorrt is installed in part ({error}); install it again, {OTHERWISE}"
            ) from error
        raise EngineError(f"torch-tensorrt is not installed; pip install torch-tensorrt, {OTHERWISE}") from error
    except Exception as error:  # a torch without CUDA makes it raise AssertionError and bare Exceptions
        raise EngineError(
            f"torch-tensorrt cannot be imported beside torch {torch.__version__} ({type(error).__name__}: {error}); it "
            f"needs a torch with CUDA of its own release: install both in the same version, {OTHERWISE}"
        ) from error
    try:
        inspect.signature(convert).bind(None, arg_inputs=(), **OPTIONS)
    except TypeError as error:
        raise EngineError(
            f"this release of torch-tensorrt is called in another way ({error}); install 2.13, {OTHERWISE}"
        ) from error
    return convert  # type: ignore[no-any-return]


def build_engine(
    network: Network,
    spec: EngineSpec,
    out: Path,
    *,
    rows: int,
    precision: Precision,
    progress: Callable[[str], None],
) -> EngineFacts:
    """Build a network for the first GPU of this machine; as `tensorrt_build.build_engine`, from the network itself."""
    convert = load_converter()
    facts = machine_facts(rows=rows, precision=precision)
    stepper = make_step(network, spec.height, spec.width, spec.hop, precision).cuda()
    example: tuple[Any, ...] = tuple(value.cuda() for value in example_inputs(stepper, rows))
    progress(f"torch-tensorrt builds {spec.name} for {facts.gpu}, {precision}, {rows} rows")
    with torch.no_grad():
        plan = convert(torch.export.export(stepper, example), arg_inputs=example, **OPTIONS)
    write_whole(out, plan)
    progress(f"{out} is built, {len(plan) / 1e6:.1f} MB")
    return facts
