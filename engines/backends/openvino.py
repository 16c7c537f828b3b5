"""The engine of CPUs: OpenVINO reads the ONNX step graph and keeps the states inside the runtime."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation, apply_moc_transformations

from ..base import Engine, EngineState, Snapshot
from ..cache import cache_folder
from ..errors import EngineError
from ..spec import STATE_OUT, EngineSpec, sha256

TYPES = {
    "float32": "f32",
    "float16": "f16",
    "int64": "i64",
    "int32": "i32",
    "uint8": "u8",
    "bool": "boolean",
}  # numpy's names -> OpenVINO's
KEPT = 32  # compiled graphs in the cache, the newest
MOST = 8  # rows of one inference: more share little more, and their maps leave the caches before they are read
ROUNDS = 7  # of measuring whether rows are cheaper alone, at most
MEASURE_S = 1.0  # after which no other round begins
WORTH = 0.97  # of the cost of rows together, what they must cost alone to run alone


class Part:
    """Some rows of a state, in one inference request: its variables are their state."""

    def __init__(self, spec: EngineSpec, rows: slice, compiled: Any) -> None:
        self.spec = spec
        self.rows = rows
        self.single = rows.stop - rows.start == 1
        self.request = compiled.create_infer_request()
        self.inputs = [port.any_name for port in self.request.model_inputs]
        by_id = {variable.name: variable for variable in self.request.query_state()}
        self.variables = {tensor.name: by_id[f"{tensor.name}{tensor.name}{STATE_OUT}"] for tensor in spec.states}
        self.request.reset_state()

    def step(self, **arrays: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Frames, active and fresh of all rows -> logits and ready of these; None if none of them is active."""
        mine = {name: array[self.rows] for name, array in arrays.items()}
        if not mine["active"].any():
            return None
        if self.single and mine["fresh"][0]:
            self.request.reset_state()
        self.request.infer({name: mine[name] for name in self.inputs}, share_inputs=True)
        return self.request.get_tensor("logits").data, self.request.get_tensor("ready").data


class OpenVINOState(EngineState):
    """The rows, in parts of at most `together`."""

    def __init__(self, spec: EngineSpec, rows: int, together: int, compiled: Callable[[int], Any]) -> None:
        super().__init__(spec, rows)
        ends = [(n, min(n + together, rows)) for n in range(0, rows, together)]
        self.parts = [Part(spec, slice(begin, end), compiled(end - begin)) for begin, end in ends]

    def snapshot(self) -> Snapshot:
        """A copy of the state."""
        names = [tensor.name for tensor in self.spec.states]
        return {name: np.concatenate([part.variables[name].state.data for part in self.parts]) for name in names}

    def _restore(self, snapshot: Snapshot) -> None:
        for part in self.parts:
            for name, variable in part.variables.items():
                variable.state = ov.Tensor(np.ascontiguousarray(snapshot[name][part.rows]))


def cheaper_alone(alone: Part, together: Part) -> bool:
    """Whether rows cost less one by one than together: what they share is gained, but the maps of many may leave the
    caches before they are read. Both are measured in turns, and the fastest round of each counts.
    """
    rows, spec = together.rows.stop, together.spec
    frames = np.random.default_rng(0).integers(0, 256, (rows, spec.height, spec.width, 3), np.uint8)
    arrays = {"frames": frames, "active": np.ones(rows, np.bool_), "fresh": np.zeros(rows, np.bool_)}
    times: dict[Part, list[float]] = {alone: [], together: []}
    began = time.perf_counter()
    for n in range(ROUNDS + 1):
        for part, steps in ((alone, rows), (together, 1)):
            started = time.perf_counter()
            for _ in range(steps):
                part.step(**arrays)
            times[part] += [time.perf_counter() - started] if n else []  # the first steps set things up
        if n and time.perf_counter() - began > MEASURE_S:
            break
    return min(times[alone]) < WORTH * min(times[together])


@functools.cache
def core() -> ov.Core:
    """The OpenVINO runtime of this process, which is never given back.

    The CPU plugin of each one gives the thread that loads it a signal stack, and frees it in its end; when two of them
    overlap, the thread can be left with a freed one, and its next signal (Ctrl-C) ends the process with SIGSEGV.
    """
    return ov.Core()


def has_bf16() -> bool:
    """Whether this processor computes in bf16."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine(Engine):
    """`NAME.onnx` compiled for this processor, once for each number of rows, and kept on disk for the next start.

    More than 8 rows run in parts of 8 and a rest, one after the other: a row of many costs what one of 8 does. Where
    a row of up to 8 costs more than a row alone, each runs alone: that is measured once for a model, a number of rows
    and a processor, and kept with the compiled graphs. A part none of whose rows is active takes no step.

    `threads` defaults to all cores but one, which is left to capture and decoding. `precision` "auto" is bf16 where the
    processor has it and the model's sidecar has a bf16 certificate, else float32. The copies that Python makes in a
    step are a frame in and a row of logits out; states never leave the runtime. The graph of one row has no masks: a
    fresh row's state is reset before the step, and a row that is not active takes no step (its logits are zeros).
    """

    def __init__(self, path: Path, spec: EngineSpec, *, threads: int | None = None, precision: str = "auto") -> None:
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
        self.together = MOST
        self.compiled: dict[int, Any] = {}
        self.chosen: dict[int, int] = {}  # by the number of rows up to `MOST`, how many are computed at once
        self.compiling = threading.Lock()  # a new state may be made in another thread while one steps

    def new_state(self, rows: int) -> OpenVINOState:
        """The initial state of `rows` streams; the first for a number of rows compiles the graph, which takes a
        second or so, or less if it was compiled in an earlier run.
        """
        with self.compiling:
            self.together = self._together(min(rows, MOST))
            return OpenVINOState(self.spec, rows, self.together, self._of_rows)

    def _together(self, most: int) -> int:
        """How many rows to compute at once where it could be so many: all of them or one."""
        if most > 1 and most not in self.chosen:
            kept = self._kept(f"together-{self._key(most)}")
            choice = _content(kept)
            if choice is None:
                alone, together = (Part(self.spec, slice(0, rows), self._of_rows(rows)) for rows in (1, most))
                size, other = (1, most) if cheaper_alone(alone, together) else (most, 1)
                choice = b"%d" % size
                self.compiled.pop(other, None)
                with contextlib.suppress(OSError):
                    _keep(kept, choice)
            self.chosen[most] = int(choice)
        return self.chosen.get(most, 1)

    def _of_rows(self, rows: int) -> Any:
        """The compiled graph of so many rows."""
        if rows not in self.compiled:
            self.compiled[rows] = self._load(rows)
        return self.compiled[rows]

    def _load(self, rows: int) -> Any:
        """The compiled graph, from the cache if it is there and whole."""
        kept = self._kept(self._key(rows))
        blob = _content(kept)
        if blob is not None:
            with contextlib.suppress(RuntimeError):  # not of this OpenVINO
                return core().import_model(blob, "CPU", self.options)
        compiled = self._compile(rows)
        with contextlib.suppress(OSError):  # a cache that cannot be written is no cache, and no error
            _keep(kept, compiled.export_model().getvalue())
        return compiled

    def _kept(self, key: str) -> Path:
        """Where something that was made for this engine is kept."""
        return cache_folder() / "openvino" / f"{self.spec.name}-{key}.blob"

    def _key(self, rows: int) -> str:
        """A name for all that a compiled graph depends on and was checked against: under another sidecar it is checked
        again.
        """
        told = [self.spec.height, self.spec.width, len(self.spec.labels)]
        states = [(one.name, one.dtype, one.shape) for one in self.spec.states]
        processor = [core().get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        code = [sha256(self.path), sha256(Path(__file__)), ov.__version__]
        parts = [*code, rows, self.options, processor, told, states]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _compile(self, rows: int) -> Any:
        try:
            model = core().read_model(self.path)
            self._check(model)
            model.reshape({port.any_name: [rows, *list(port.partial_shape)[1:]] for port in model.inputs})
            if rows == 1:
                model = self._without_masks(model)
            apply_make_stateful_transformation(
                model, {tensor.name: tensor.name + STATE_OUT for tensor in self.spec.states}
            )
            return core().compile_model(model, "CPU", self.options)
        except EngineError:
            raise
        except Exception as error:  # OpenVINO raises what it likes for a file that is not a graph, or a damaged one
            why = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise EngineError(f"{self.path}: OpenVINO cannot use this graph: {why}") from error

    def _check(self, model: Any) -> None:
        """Raise EngineError unless the graph's inputs and outputs are those that the sidecar tells of."""
        spec = self.spec
        states = [(one.name, TYPES[one.dtype], one.shape) for one in spec.states]
        flags = [(name, "boolean", ()) for name in ("active", "fresh")]
        inputs = [("frames", "u8", (spec.height, spec.width, 3)), *flags, *states]
        answers = [("logits", "f32", (len(spec.labels),)), ("ready", "boolean", ())]
        outputs = [*answers, *((name + STATE_OUT, kind, shape) for name, kind, shape in states)]
        for what, ports, wanted in (("input", model.inputs, inputs), ("output", model.outputs, outputs)):
            found = {name: port for port in ports for name in port.names}
            for name, kind, shape in wanted:
                port = found.get(name)
                of_rows = ov.PartialShape([-1, *shape])
                if (
                    port is None
                    or port.element_type.get_type_name() != kind
                    or not port.partial_shape.compatible(of_rows)
                ):
                    there = f"{port.element_type.get_type_name()} {port.partial_shape}" if port else "not there"
                    raise EngineError(
                        f"{self.path}: its graph is not the one that its sidecar describes: {what} {name} is {there}, "
                        f"and should be {kind} {of_rows}"
                    )
            if len(ports) != len(wanted):
                raise EngineError(
                    f"{self.path}: its graph is not the one that its sidecar describes: it has {len(ports)} {what}s, "
                    f"and should have {len(wanted)}"
                )

    def _without_masks(self, model: Any) -> Any:
        """The graph of a row that is active and not fresh.

        OpenVINO never writes a state whose next value is a constant; a graph in which there would be such a one keeps
        the mask of `active`.
        """
        _fix(model, "fresh", False)
        unmasked = model.clone()
        _fix(unmasked, "active", True)
        apply_moc_transformations(unmasked, cf=True)
        values = [unmasked.output(state.name + STATE_OUT).get_node().input_value(0) for state in self.spec.states]
        return model if any(value.get_node().get_type_name() == "Constant" for value in values) else unmasked

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: OpenVINOState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        try:
            answers = [part.step(frames=frames, active=active, fresh=fresh) for part in state.parts]
        except RuntimeError as error:
            told = str(error).strip().splitlines()[-1]
            raise EngineError(f"{self.path}: OpenVINO cannot run this graph: {told}") from error
        if len(answers) == 1 and answers[0] is not None:
            return answers[0]
        logits, ready = np.zeros((state.rows, len(self.spec.labels)), np.float32), np.zeros(state.rows, np.bool_)
        for part, answer in zip(state.parts, answers, strict=True):
            if answer is not None:
                logits[part.rows], ready[part.rows] = answer
        return logits, ready

    def close(self) -> None:
        """Give back the compiled graphs."""
        self.compiled.clear()


def _fix(model: Any, name: str, value: bool) -> None:
    """Make an input [1] of a graph a constant, for the runtime to fold what depends on it."""
    port = model.input(name)
    constant = opset13.constant(np.array([value]))
    for reader in list(port.get_target_inputs()):
        reader.replace_source_output(constant.output(0))
    model.remove_parameter(port.get_node())


def _content(path: Path) -> bytes | None:
    """What `_keep` wrote; None if it is not there, or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, blob = content[:32], content[32:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def _keep(path: Path, blob: bytes) -> None:
    """Write what was made behind its digest, whole or not at all; the oldest of too many go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_bytes(hashlib.sha256(blob).digest() + blob)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    oldest_first = sorted(path.parent.glob("*.blob"), key=lambda kept: kept.stat().st_mtime)
    for old in oldest_first[:-KEPT]:
        old.unlink(missing_ok=True)
