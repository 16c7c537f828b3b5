"""The engine of CPUs: OpenVINO reads the ONNX step graph and keeps the states inside the runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino._offline_transformations import apply_make_stateful_transformation

from .base import Engine, EngineState, Snapshot
from .errors import EngineError
from .spec import STATE_OUT, EngineSpec


class OpenVINOState(EngineState):
    """One inference request: its variables are the state."""

    def __init__(self, spec: EngineSpec, rows: int, request: Any) -> None:
        super().__init__(spec, rows)
        self.request = request
        by_id = {variable.name: variable for variable in request.query_state()}
        self.variables = {tensor.name: by_id[f"{tensor.name}{tensor.name}{STATE_OUT}"] for tensor in spec.states}
        for variable in self.variables.values():
            variable.reset()

    def snapshot(self) -> Snapshot:
        """A copy of the state."""
        return {name: np.array(variable.state.data) for name, variable in self.variables.items()}

    def _restore(self, snapshot: Snapshot) -> None:
        for name, variable in self.variables.items():
            variable.state = ov.Tensor(np.ascontiguousarray(snapshot[name]))


def has_bf16() -> bool:
    """Whether this processor computes in bf16."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine(Engine):
    """`NAME.onnx` compiled for this processor, once for each number of rows.

    `threads` defaults to all cores but one, which is left to capture and decoding. `precision` "auto" is bf16 where the
    processor has it and the model's sidecar has a bf16 certificate, else float32. The copies that Python makes in a
    step are a frame in and a row of logits out; states never leave the runtime.
    """

    def __init__(self, path: Path, spec: EngineSpec, *, threads: int | None = None, precision: str = "auto") -> None:
        self.core = ov.Core()
        self.path = path
        if precision == "bf16" and not has_bf16():
            raise EngineError("engine.precision is bf16, but this processor has no bf16 arithmetic; use auto or fp32")
        if precision == "auto":
            certified = any(c.backend == "openvino" and c.precision == "bf16" for c in spec.certificates)
            precision = "bf16" if certified and has_bf16() else "fp32"
        threads = threads or max(1, (os.cpu_count() or 1) - 1)
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        plural = "s" if threads > 1 else ""
        super().__init__(
            spec, "openvino", f"OpenVINO {ov.__version__.split('-')[0]}, CPU, {precision}, {threads} thread{plural}"
        )
        self.compiled: dict[int, Any] = {}

    def new_state(self, rows: int) -> OpenVINOState:
        """The initial state of `rows` streams; the first for a number of rows compiles the graph, which takes a
        second or so.
        """
        if rows not in self.compiled:
            self.compiled[rows] = self._compile(rows)
        return OpenVINOState(self.spec, rows, self.compiled[rows].create_infer_request())

    def _compile(self, rows: int) -> Any:
        try:
            model = self.core.read_model(self.path)
            model.reshape({port.any_name: [rows, *list(port.partial_shape)[1:]] for port in model.inputs})
            apply_make_stateful_transformation(
                model, {tensor.name: tensor.name + STATE_OUT for tensor in self.spec.states}
            )
            return self.core.compile_model(model, "CPU", self.options)
        except RuntimeError as error:
            raise EngineError(
                f"{self.path}: OpenVINO cannot use this graph: {str(error).strip().splitlines()[-1]}"
            ) from error

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: OpenVINOState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        state.request.infer({"frames": frames, "active": active, "fresh": fresh}, share_inputs=True)
        return state.request.get_tensor("logits").data, state.request.get_tensor("ready").data

    def close(self) -> None:
        """Give back the compiled graphs."""
        self.compiled.clear()
