"""TensorRT as Python sees it, in three versions, on fake CUDA. A "graph" and a "plan" are the JSON of a step's tensors;
what a step computes is a Python function.
"""

# ruff: noqa: N802 - the names are NVIDIA's

from __future__ import annotations

import ctypes
import enum
import json
import types
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec
from engines.spec import STATE_OUT

from .fake_cuda import FakeDriver

Arrays = dict[str, NDArray[Any]]
DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "BOOL": np.bool_, "INT32": np.int32}


def members(name: str, *names: str) -> Any:
    """An enumeration, counted from 0."""
    return enum.IntEnum(name, names, start=0)


DataType = members("DataType", *DTYPES)
Severity = members("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def step_tensors(spec: EngineSpec, rows: int, state_type: str = "HALF") -> dict[str, list[list[Any]]]:
    """The inputs and outputs of a step, each name, type and shape: what the fake reads as a graph."""
    frame, flag = [rows, spec.height, spec.width, 3], [rows]
    states: list[list[Any]] = [[state.name, state_type, [rows, *state.shape]] for state in spec.states]
    return {
        "inputs": [["frames", "UINT8", frame], ["active", "BOOL", flag], ["fresh", "BOOL", flag], *states],
        "outputs": [
            ["logits", "FLOAT", [rows, len(spec.labels)]], ["ready", "BOOL", flag],
            *([name + STATE_OUT, dtype, shape] for name, dtype, shape in states),
        ],
    }  # fmt: skip


class FakeTensorRT(types.ModuleType):
    """The module `tensorrt` of a version. What it is to fail at is set on it; what it was told is kept on it.

    compute       inputs by name -> outputs by name: the step
    logs          a line that TensorRT logs as an error before it fails
    no_gpu        Builder and Runtime give nullptr
    fails         of parse, build, load, context, address, run: what comes back as None or False
    """

    def __init__(self, version: str, cuda: FakeDriver, compute: Callable[[Arrays], Arrays]) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.cuda, self.compute = cuda, compute
        self.logs, self.no_gpu, self.fails = "", False, ""
        self.parse_error: Any = None
        self.network: Any = None
        self.config: Any = None
        self.runs = 0
        self.ILogger = type("ILogger", (), {"Severity": Severity})
        self.DataType = DataType
        self.MemoryPoolType = members("MemoryPoolType", "WORKSPACE")
        old = version.startswith("8.")
        self.NetworkDefinitionCreationFlag = members("Creation", "EXPLICIT_BATCH" if old else "STRONGLY_TYPED")
        self.BuilderFlag = members("BuilderFlag", "TF32", *(["FP16", "OBEY_PRECISION_CONSTRAINTS"] if old else []))
        if old:
            self.TacticSource = members("TacticSource", "CUBLAS", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
            self.PreviewFeature = members("PreviewFeature", "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805")
        else:
            self.IProgressMonitor = type("IProgressMonitor", (), {})

    def say(self, log: Any) -> None:
        if self.logs:
            log.log(Severity.WARNING, "something else")
            log.log(Severity.ERROR, self.logs)

    def Builder(self, log: Any) -> FakeBuilder:
        return FakeBuilder(self, self.present(log))

    def Runtime(self, log: Any) -> FakeRuntimeOfPlans:
        return FakeRuntimeOfPlans(self, self.present(log))

    def present(self, log: Any) -> Any:
        if self.no_gpu:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return log

    def OnnxParser(self, network: FakeNetwork, log: Any) -> FakeParser:
        return FakeParser(self, network, log)


class FakeTensor:
    def __init__(self, name: str, dtype: str, shape: list[int]) -> None:
        self.name, self.dtype, self.shape = name, DataType[dtype], tuple(shape)


class FakeNetwork:
    """What a parser has read; `layers` are namespaces."""

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.inputs: list[FakeTensor] = []
        self.outputs: list[FakeTensor] = []
        self.layers: list[Any] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> FakeTensor:
        return self.inputs[index]

    def get_output(self, index: int) -> FakeTensor:
        rows = self.inputs[0].shape[0]
        self.outputs[index].shape = (rows, *self.outputs[index].shape[1:])
        return self.outputs[index]

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


class FakeParser:
    def __init__(self, trt: FakeTensorRT, network: FakeNetwork, log: Any) -> None:
        self.trt, self.network, self.log = trt, network, log
        self.num_errors = 1 if trt.parse_error else 0

    def get_error(self, index: int) -> Any:
        assert index == 0
        return self.trt.parse_error

    def parse(self, graph: bytes) -> bool:
        self.trt.say(self.log)
        if self.trt.fails == "parse":
            return False
        read = json.loads(graph)
        self.network.inputs = [FakeTensor(*tensor) for tensor in read["inputs"]]
        self.network.outputs = [FakeTensor(*tensor) for tensor in read["outputs"]]
        self.network.layers = [FakeLayer(*layer) for layer in read.get("layers", [])]
        self.trt.network = self.network
        return True


class FakeLayer:
    """A layer of one output; its inputs are types by name, or None for one that it lacks."""

    num_outputs = 1

    def __init__(
        self, name: str, kind: str, inputs: Sequence[str | None] = ("HALF", None), output: str = "HALF"
    ) -> None:
        self.name, self.type = name, types.SimpleNamespace(name=kind)
        self.inputs = [dtype and FakeTensor(name, dtype, []) for dtype in inputs]
        self.output = FakeTensor(name, output, [])
        self.precision: Any = None
        self.output_types: dict[int, Any] = {}

    num_inputs = property(lambda self: len(self.inputs))

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_output(self, index: int) -> FakeTensor:
        assert index == 0
        return self.output

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype


class FakeConfig:
    """Flags by name; a timing cache is bytes."""

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.flags = {"TF32"}
        self.progress_monitor: Any = None
        self.sources = 0
        self.previews: set[str] = set()
        self.timings: Any = None
        self.workspace: int | None = None

    def set_memory_pool_limit(self, pool: Any, nbytes: int) -> None:
        assert pool.name == "WORKSPACE"
        self.workspace = nbytes

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_tactic_sources(self, sources: int) -> None:
        self.sources = sources

    def set_preview_feature(self, feature: Any, on: bool) -> None:
        assert on
        self.previews.add(feature.name)

    def create_timing_cache(self, content: bytes) -> Any:
        return types.SimpleNamespace(content=content, serialize=lambda: b"timed by " + self.trt.__version__.encode())

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.content not in {b"", b"timed by " + self.trt.__version__.encode()}:
            return False
        self.timings = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.timings


class FakeBuilder:
    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self.trt, self.log = trt, log

    def create_network(self, flags: int) -> FakeNetwork:
        return FakeNetwork(flags)

    def create_builder_config(self) -> FakeConfig:
        config = self.trt.config = FakeConfig(self.trt)
        return config

    def build_serialized_network(self, network: FakeNetwork, config: FakeConfig) -> bytes | None:
        if config.progress_monitor is not None:
            config.progress_monitor.phase_start("Building engine", None, 2)
            config.progress_monitor.phase_start("Tactics", "Building engine", 9)
            assert config.progress_monitor.step_complete("Building engine", 0) is True
            config.progress_monitor.phase_finish("Building engine")
        if self.trt.fails == "build":
            self.trt.say(self.log)
            return None
        ends = {"inputs": network.inputs, "outputs": [network.get_output(n) for n in range(network.num_outputs)]}
        plan = {key: [[t.name, t.dtype.name, t.shape] for t in tensors] for key, tensors in ends.items()}
        return json.dumps(plan).encode()


class FakeRuntimeOfPlans:
    def __init__(self, trt: FakeTensorRT, log: Any) -> None:
        self.trt, self.log = trt, log

    def deserialize_cuda_engine(self, plan: bytes) -> FakePlan | None:
        if self.trt.fails == "load":
            self.trt.say(self.log)
            return None
        return FakePlan(self.trt, self.log, json.loads(plan))


class FakePlan:
    """An ICudaEngine."""

    def __init__(self, trt: FakeTensorRT, log: Any, plan: dict[str, Any]) -> None:
        self.trt, self.log = trt, log
        self.inputs, self.outputs = (
            {name: (dtype, tuple(shape)) for name, dtype, shape in plan[end]} for end in ("inputs", "outputs")
        )
        self.tensors = self.inputs | self.outputs
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        name: str = list(self.tensors)[index]
        return name

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[self.tensors[name][0]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def create_execution_context(self) -> FakeContext | None:
        if self.trt.fails == "context":
            self.trt.say(self.log)
            return None
        return FakeContext(self)


class FakeContext:
    def __init__(self, plan: FakePlan) -> None:
        self.plan = plan
        self.addresses: dict[str, int] = {}
        self.captured = False

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.plan.trt.cuda.memory
        assert not self.captured, "the addresses of a context that was captured must not change"
        self.addresses[name] = address
        return self.plan.trt.fails != "address"

    def execute_async_v3(self, stream: int) -> bool:
        """Queue the step on the addresses of now; reads and writes must not share one."""
        plan, addresses = self.plan, dict(self.addresses)
        if stream in plan.trt.cuda.captures:
            assert not self.captured, "a context is captured into one graph at most"
            self.captured = True
        assert addresses.keys() == plan.tensors.keys()
        assert len(set(addresses.values())) == len(addresses), "two tensors at one address"
        if plan.trt.fails == "run":
            plan.trt.say(plan.log)
            return False

        def view(name: str) -> NDArray[Any]:
            dtype, shape = plan.tensors[name]
            nbytes = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
            memory = (ctypes.c_uint8 * nbytes).from_address(addresses[name])
            return np.frombuffer(memory, DTYPES[dtype]).reshape(shape)

        def work() -> None:
            plan.trt.runs += 1
            outputs = plan.trt.compute({name: view(name).copy() for name in plan.inputs})
            for name in plan.outputs:
                view(name)[...] = outputs[name]

        plan.trt.cuda.queue(stream, work)
        return True
