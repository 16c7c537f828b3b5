"""The engine of NVIDIA GPUs: runs the engine file that `tensorrt_build` made of a step graph. No torch.

Written in what TensorRT 8.6, 10 and 11 share. States stay on the GPU in two banks: a step reads one and writes the
other, and the next goes the other way, so that no tensor is ever both in and out. Each way is one captured CUDA graph
of an execution context of its own: upload of the frames, the network, download of the logits.
"""

from __future__ import annotations

import functools
import logging
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Engine, EngineState, Snapshot
from ..errors import EngineError
from ..spec import STATE_OUT, EngineFacts, EngineSpec
from .cuda import Buffer, Device, Graph, Stream, pinned
from .tensorrt_build import (
    REBUILD,
    build_engine,
    cache_key,
    check_tensors,
    load_tensorrt,
    machine_facts,
    make_log,
    own_name,
    read_whole,
    usable,
)

__all__ = ["TensorRTEngine", "build_engine", "cache_key", "machine_facts"]

LOGGER = logging.getLogger(__name__)
UPLOADED, DOWNLOADED = ("frames", "active", "fresh"), ("logits", "ready")
WITHOUT_GRAPHS = ", without CUDA graphs"
DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "BOOL": np.bool_}  # TensorRT's names


class Way:
    """One of the two ways of a step, with an execution context of its own whose addresses are bound once: a captured
    graph goes on using them, and the vendor allows one graph a context.
    """

    def __init__(self, engine: TensorRTEngine, addresses: dict[str, int]) -> None:
        engine.log.forget()
        self.context: Any = engine.plan.create_execution_context()
        if self.context is None:
            raise EngineError(
                f"{engine.path}: no room on the GPU for a state of {engine.rows} rows: {engine.log.reason()}"
            )
        if not all(self.context.set_tensor_address(theirs, addresses[ours]) for theirs, ours in engine.names.items()):
            raise EngineError(f"{engine.path}: TensorRT cannot run this engine: {engine.log.reason()}")
        self.graph: Graph | None = None

    def close(self) -> None:
        """Give back the graph and the context."""
        if self.graph:
            self.graph.free()
        self.graph = self.context = None


class TensorRTState(EngineState):
    """Two banks of buffers, and the two ways between them. Rows of the engine file that are not asked for are never
    active.
    """

    def __init__(self, engine: TensorRTEngine, rows: int) -> None:
        super().__init__(engine.spec, rows)
        self.engine = engine
        tensors, gpu = engine.tensors, engine.gpu
        exchanged = (*UPLOADED, *DOWNLOADED)
        self.stream = Stream(gpu)
        self.host = {name: pinned(gpu, *tensors[name]) for name in exchanged}
        self.buffers = {name: Buffer(gpu, self.host[name].nbytes) for name in exchanged}
        self.banks = tuple(
            {tensor.name: Buffer(gpu, np.empty(*tensors[tensor.name]).nbytes) for tensor in self.spec.states}
            for _ in range(2)
        )
        for bank in self.banks:
            for buffer in bank.values():
                self.stream.clear(buffer)
        self.bank = 0  # the one that the next step reads
        self.ways = [Way(engine, self.addresses(bank)) for bank in (0, 1)]
        for way in self.ways:  # once as it is, as TensorRT wants it before a capture; no row is active: all stays zero
            self.queue(way)
        self.stream.wait()
        if engine.graphs:
            try:
                for way in self.ways:
                    way.graph = self.stream.capture(functools.partial(self.queue, way))
            except EngineError as error:
                self.ways[0].graph = None
                engine.without_graphs(error)

    def addresses(self, bank: int) -> dict[str, int]:
        """Where each tensor of a step lies that reads `bank` and writes the other."""
        after = {name + STATE_OUT: buffer for name, buffer in self.banks[1 - bank].items()}
        bound = {**self.buffers, **self.banks[bank], **after}
        return {name: buffer.pointer for name, buffer in bound.items()}

    def queue(self, way: Way) -> None:
        """Queue one step call by call: upload of the inputs, the network, download of the outputs."""
        for name in UPLOADED:
            self.stream.upload(self.host[name], self.buffers[name])
        self.engine.log.forget()
        if not way.context.execute_async_v3(self.stream.handle):
            raise EngineError(f"{self.engine.path}: TensorRT cannot run this engine: {self.engine.log.reason()}")
        for name in DOWNLOADED:
            self.stream.download(self.buffers[name], self.host[name])

    def step(self) -> None:
        """One step from what is in `host`, to there."""
        if not self.ways:
            raise EngineError(f"{self.engine.path}: the engine was closed; no state of it can step any more")
        way = self.ways[self.bank]
        if way.graph:
            way.graph.launch()
        else:
            self.queue(way)
        self.stream.wait()
        self.bank = 1 - self.bank

    def close(self) -> None:
        """Give back what the state holds on the GPU, whoever still refers to it."""
        for way in self.ways:
            way.close()
        self.ways = []
        for buffers in (self.buffers, *self.banks):
            for buffer in buffers.values():
                buffer.free()
        self.stream.free()

    def snapshot(self) -> Snapshot:
        """A copy of the state, in the types of the sidecar: float16 is kept exactly in float32."""
        copies = {name: np.empty(*self.engine.tensors[name]) for name in self.banks[self.bank]}
        for name, buffer in self.banks[self.bank].items():
            self.stream.download(buffer, copies[name])
        self.stream.wait()
        return {tensor.name: copies[tensor.name][: self.rows].astype(tensor.dtype) for tensor in self.spec.states}

    def _restore(self, snapshot: Snapshot) -> None:
        values = {name: np.zeros(*self.engine.tensors[name]) for name in snapshot}
        for name, value in values.items():
            value[: self.rows] = snapshot[name]
            self.stream.upload(value, self.banks[self.bank][name])
        self.stream.wait()


class TensorRTEngine(Engine):
    """`NAME.engine` with its sidecar, on the first GPU. Its number of rows is fixed: fewer run as well, more do not.

    Raises EngineError for a machine that cannot run TensorRT, and for a file that was built for another machine or
    version, is broken, or is of another model than its sidecar says.
    """

    def __init__(self, path: Path, spec: EngineSpec, *, graphs: bool = True) -> None:
        facts, trt = built_for(path, spec), load_tensorrt()
        self.path, self.rows = path, facts.rows
        self.graphs = graphs and facts.graphs
        self._states: weakref.WeakSet[TensorRTState] = weakref.WeakSet()
        self.gpu = Device()  # before anything of TensorRT, which may crash the process where there is no driver
        here = machine_facts(rows=facts.rows, precision=facts.precision)
        if (facts.tensorrt, facts.gpu, facts.compute_capability) != (here.tensorrt, here.gpu, here.compute_capability):
            raise EngineError(
                f"{path}: was built by TensorRT {facts.tensorrt} for {facts.gpu} (compute capability "
                f"{facts.compute_capability}), but here is TensorRT {here.tensorrt} on {here.gpu} "
                f"({here.compute_capability}); {REBUILD}"
            )
        self.log = make_log(trt)
        self.runtime: Any = usable(lambda: trt.Runtime(self.log))
        self.plan: Any = self.runtime.deserialize_cuda_engine(read_whole(path))
        if self.plan is None:
            raise EngineError(f"{path}: TensorRT cannot load this engine: {self.log.reason()}; {REBUILD}")
        plural = "s" if facts.rows > 1 else ""
        super().__init__(
            spec, "tensorrt", f"TensorRT {here.tensorrt}, {here.gpu}, {facts.precision}, {facts.rows} row{plural}"
        )
        if not self.graphs:
            self.device += WITHOUT_GRAPHS
        found = [self.plan.get_tensor_name(index) for index in range(self.plan.num_io_tensors)]
        self.names: dict[str, str] = {name: own_name(name, spec) for name in found}  # the engine's -> ours
        shapes = {ours: tuple(self.plan.get_tensor_shape(name)) for name, ours in self.names.items()}
        types = {ours: self.plan.get_tensor_dtype(name).name for name, ours in self.names.items()}
        check_tensors(path, spec, facts.rows, shapes, types)
        self.tensors = {name: (shapes[name], DTYPES[types[name]]) for name in shapes}

    def new_state(self, rows: int) -> TensorRTState:
        """The initial state of `rows` streams, at most as many as the engine was built for."""
        if not 1 <= rows <= self.rows:
            raise EngineError(
                f"{self.path}: was built for {self.rows} rows and cannot run {rows} streams; build it again with "
                f"--rows {rows}, or run fewer"
            )
        state = TensorRTState(self, rows)
        self._states.add(state)
        return state

    def without_graphs(self, error: EngineError) -> None:
        """Steps are queued call by call from now on; said once."""
        if self.graphs:
            self.graphs = False
            self.device += WITHOUT_GRAPHS
            LOGGER.warning("%s: runs without CUDA graphs, somewhat slower: %s", self.path, error)

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: TensorRTState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        for name, value in zip(UPLOADED, (frames, active, fresh), strict=True):
            state.host[name][: state.rows] = value
        state.step()
        return state.host["logits"][: state.rows], state.host["ready"][: state.rows]

    def close(self) -> None:
        """Give back the engine and what its states hold; again does no harm."""
        for state in list(self._states):
            state.close()
        self.plan = self.runtime = None


def built_for(path: Path, spec: EngineSpec) -> EngineFacts:
    """What the sidecar says that the engine file was built for; raises EngineError if it does not say."""
    if spec.engine is None:
        raise EngineError(f"{path}: its sidecar does not say which TensorRT and GPU it was built for; {REBUILD}")
    return spec.engine


def why_not() -> str | None:
    """None if TensorRT is installed and a GPU is there, else what is missing and how to get it."""
    try:
        load_tensorrt()
        Device()
    except EngineError as error:
        return str(error)
    return None
