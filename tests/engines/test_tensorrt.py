"""The TensorRT engine on a fake GPU that does what is queued only when it is waited for, and every way to fail."""

from __future__ import annotations

import gc
import json
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from engines import EngineError, EngineSpec, TensorSpec, find_models, load_engine
from engines.cuda import Device
from engines.spec import FLOAT32_NODE, STATE_OUT, read_spec
from engines.tensorrt import TensorRTEngine, build_engine, built_for, cache_key, machine_facts, why_not

from .fake_cuda import FakeRuntime, Status
from .fake_tensorrt import Arrays, FakeTensorRT, step_tensors

SPEC = EngineSpec(
    name="toy", labels=("a", "b", "c"), height=4, width=6, rate_hz=10.0, frames=3, mode="stream", fit="stretch",
    network="toy", backbone="none", channel_width=1.0, files={},
    states=(TensorSpec("sum", (2,), "float32"), TensorSpec("seen", (), "float32")),
)  # fmt: skip
VERSIONS = ("8.6.1", "10.3.0", "11.0.0")


def toy(inputs: Arrays) -> Arrays:
    """A network that adds up its frames' means (times 1 and 2) and counts them."""
    active, fresh = inputs["active"], inputs["fresh"]
    before = np.where(fresh[:, None], 0, inputs["sum"])
    total = before + inputs["frames"].mean((1, 2, 3))[:, None] * np.array([1, 2])
    seen = np.where(fresh, 0, inputs["seen"]) + 1
    kept = np.where(active, seen, inputs["seen"])
    return {
        "logits": np.concatenate([total, seen[:, None]], 1),
        "ready": kept >= SPEC.frames,
        "sum" + STATE_OUT: np.where(active[:, None], total, inputs["sum"]),
        "seen" + STATE_OUT: kept,
    }


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    runtime = FakeRuntime()
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    return runtime


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeRuntime, version: str = "10.3.0") -> FakeTensorRT:
    module = FakeTensorRT(version, cuda, toy)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeRuntime) -> FakeTensorRT:
    return install(monkeypatch, cuda)


def write_graph(folder: Path, rows: int = -1, **more: Any) -> Path:
    path = folder / "toy.fp16.onnx"
    path.write_text(json.dumps(step_tensors(SPEC, rows) | more))
    return path


def build(folder: Path, rows: int = 2, **options: Any) -> tuple[Path, EngineSpec]:
    """An engine file, and the sidecar that belongs to it."""
    graph, out = options.pop("graph", None) or write_graph(folder), folder / "toy.engine"
    told = options.pop("progress", print)
    facts = build_engine(graph, SPEC, out, rows=rows, precision=options.pop("precision", "fp16"), progress=told)
    return out, msgspec.structs.replace(SPEC, engine=facts)


def flags(*values: bool) -> NDArray[np.bool_]:
    return np.array(values)


def grey(*levels: int) -> NDArray[np.uint8]:
    """A frame of one grey for each row."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 4, 6, 3)).copy()


YES, NO = flags(True, True), flags(False, False)


def test_the_banks_alternate_over_two_captured_graphs_and_rows_are_their_own(
    trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path
) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    assert len(cuda.graphs) == 2
    answers = [
        [array.tolist() for array in engine.step(grey(n, 10 * n), YES, flags(n == 1, n in {1, 3}), state)]
        for n in range(1, 6)
    ]
    assert [logits for logits, _ in answers] == [
        [[1, 2, 1], [10, 20, 1]], [[3, 6, 2], [30, 60, 2]], [[6, 12, 3], [30, 60, 1]],
        [[10, 20, 4], [70, 140, 2]], [[15, 30, 5], [120, 240, 3]],
    ]  # fmt: skip
    assert [ready for _, ready in answers] == [[n >= 3, n == 5] for n in range(1, 6)]
    assert cuda.launches == 5
    assert engine.device == "TensorRT 10.3.0, NVIDIA Fake, fp16, 2 rows"


def test_an_idle_row_keeps_its_state(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    for active in (YES, flags(True, False), flags(False, False), YES):
        logits, _ = engine.step(grey(1, 1), active, NO, state)
    assert logits.tolist() == [[3, 6, 3], [2, 4, 2]]


def test_a_new_state_is_zero_although_the_memory_was_not(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    assert {name: value.tolist() for name, value in engine.new_state(2).snapshot().items()} == {
        "sum": [[0, 0], [0, 0]],
        "seen": [0, 0],
    }


def test_a_state_is_saved_in_float32_and_goes_on_in_another_state_and_bank(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state, other = engine.new_state(2), engine.new_state(2)
    engine.step(grey(3, 5), YES, NO, other)
    for _ in range(2):
        engine.step(grey(3, 5), YES, NO, state)
    saved = state.snapshot()
    assert {name: value.dtype for name, value in saved.items()} == {"sum": np.float32, "seen": np.float32}
    expected = engine.step(grey(1, 2), YES, NO, state)[0].copy()
    other.restore(saved)
    assert np.array_equal(engine.step(grey(1, 2), YES, NO, other)[0], expected)
    assert saved["sum"].tolist() == [[6, 12], [10, 20]]
    with pytest.raises(EngineError, match="sum differs"):
        other.restore({**saved, "sum": saved["sum"][:1]})


def test_fewer_streams_than_the_engine_has_rows_run_and_more_are_refused(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path, rows=4))
    state = engine.new_state(1)
    for _ in range(3):
        logits, ready = engine.step(grey(7), flags(True), flags(False), state)
    assert (logits.tolist(), ready.tolist()) == ([[21, 42, 3]], [True])
    assert state.snapshot()["sum"].shape == (1, 2)
    state.restore(state.snapshot())
    assert engine.step(grey(7), flags(True), flags(False), state)[0].tolist() == [[28, 56, 4]]
    for rows in (0, 5):
        with pytest.raises(EngineError, match=rf"built for 4 rows and cannot run {rows} streams.*--rows {rows}"):
            engine.new_state(rows)


def test_memory_is_given_back_with_the_state_and_lives_as_long_as_an_answer(
    trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path
) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    answer, ready = engine.step(grey(1, 2), YES, NO, state)
    del state
    gc.collect()
    assert len(cuda.memory) == 2  # the pinned logits and ready
    assert answer[1].tolist() == [2, 4, 1]
    del answer, ready
    engine.close()
    assert (cuda.memory, cuda.graphs, cuda.queues) == ({}, {}, {})


@pytest.mark.parametrize("what", ["cudaStreamBeginCapture", "cudaGraphInstantiate"])
def test_without_a_capture_every_step_is_queued_and_it_is_said_once(
    what: str, trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.fails[what] = Status.cudaErrorStreamCaptureUnsupported
    engine = TensorRTEngine(*build(tmp_path))
    state, _ = engine.new_state(2), engine.new_state(2)
    for _ in range(3):
        logits, _ = engine.step(grey(1, 2), YES, NO, state)
    assert logits.tolist() == [[3, 6, 3], [6, 12, 3]]
    assert cuda.launches == 0
    assert engine.device.endswith("2 rows, without CUDA graphs")
    assert [record.getMessage() for record in caplog.records if "without CUDA graphs" in record.getMessage()] == [
        f"{engine.path}: runs without CUDA graphs, somewhat slower: {what} failed: CUDA says "
        "cudaErrorStreamCaptureUnsupported; if it happens again, look at `dmesg` and update the NVIDIA driver"
    ]


def test_the_default_model_through_the_engines_run_path_equals_openvino(trt: FakeTensorRT, tmp_path: Path) -> None:
    """The fake GPU computes the real graph, three rows of it, for two streams out of step."""
    spec = read_spec(find_models()["default"])
    model = ov.Core().read_model(find_models()["default"].with_suffix(".onnx"))
    model.reshape({port.any_name: [3, *list(port.partial_shape)[1:]] for port in model.inputs})
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    trt.compute = lambda inputs: {port.any_name: value for port, value in compiled(inputs).items()}
    graph, out = tmp_path / "default.onnx", tmp_path / "default.engine"
    graph.write_text(json.dumps(step_tensors(spec, -1, "FLOAT")))
    facts = build_engine(graph, spec, out, rows=3, precision="fp32", progress=print)
    engine = TensorRTEngine(out, msgspec.structs.replace(spec, engine=facts))
    reference = load_engine("default", threads=1, precision="fp32")
    state, other = engine.new_state(2), reference.new_state(2)
    rng = np.random.default_rng(0)
    for n in range(12):
        frames = rng.integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
        active, fresh = flags(True, n % 3 != 1), flags(n in {0, 7}, n == 0)
        expected, expected_ready = reference.step(frames, active, fresh, other)
        logits, ready = engine.step(frames, active, fresh, state)
        assert np.abs(logits[active] - expected[active]).max() <= 1e-4
        assert np.array_equal(ready, expected_ready)
    for name, value in other.snapshot().items():
        assert np.abs(state.snapshot()[name] - value).max() <= 1e-4


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_built_and_run_by_every_version(
    version: str, cuda: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, cuda, version)
    told: list[str] = []
    layers = [["conv", "CONVOLUTION"], [FLOAT32_NODE + "softmax", "SOFTMAX"], [FLOAT32_NODE + "cast", "CAST"]]
    path, spec = build(tmp_path, graph=write_graph(tmp_path, layers=layers), progress=told.append)
    assert "TF32" not in module.config.flags
    pinned = [layer.name for layer in module.network.layers if layer.precision is not None]
    if version.startswith("8"):
        assert module.config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
        assert pinned == ["float32/softmax"]
        assert module.network.layers[1].output_types == {0: module.DataType.FLOAT}
        assert module.config.sources == 0b1100
        assert module.config.previews == {"DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805"}
        assert len(told) == 2
    else:
        assert (module.config.flags, pinned, module.config.sources) == (set(), [], 0)
        assert told[1] == "Building engine: 2 steps"
    assert module.network.flags == 1
    assert told[0] == f"TensorRT {version} builds toy.fp16.onnx for NVIDIA Fake, fp16, 2 rows"
    assert msgspec.to_builtins(spec.engine) == {
        "tensorrt": version, "gpu": "NVIDIA Fake", "compute_capability": "8.7", "driver": "12.6",
        "precision": "fp16", "rows": 2,
    }  # fmt: skip
    assert TensorRTEngine(path, spec).device == f"TensorRT {version}, NVIDIA Fake, fp16, 2 rows"


def test_a_float32_graph_is_built_without_float16_in_8_6(
    cuda: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, cuda, "8.6.1")
    build(tmp_path, precision="fp32")
    assert module.config.flags == set()


def test_timings_are_kept_beside_the_engine_and_a_broken_file_is_forgotten(trt: FakeTensorRT, tmp_path: Path) -> None:
    timings = tmp_path / "tensorrt-10.3.0-8.7.timings"
    timings.write_bytes(b"garbage")
    build(tmp_path)
    assert trt.config.timings.content == b""
    assert timings.read_bytes() == b"timed by 10.3.0"
    build(tmp_path)
    assert trt.config.timings.content == b"timed by 10.3.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tensorrt-10.3.0-8.7.timings",
        "toy.engine",
        "toy.fp16.onnx",
    ]


def test_every_fact_makes_another_key(trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    facts = machine_facts(rows=2, precision="fp16")
    changes = {
        "tensorrt": "11.0.0", "gpu": "other", "compute_capability": "9.0", "driver": "13.0", "precision": "fp32",
        "rows": 3,
    }  # fmt: skip
    others = [msgspec.structs.replace(facts, **{name: value}) for name, value in changes.items()]
    keys = [cache_key(graph, each) for each in (facts, *others)]
    graph.write_text(graph.read_text() + " ")
    keys.append(cache_key(graph, facts))
    assert len(set(keys)) == 8
    assert keys[-1] == cache_key(graph, machine_facts(rows=2, precision="fp16"))


# --- every way to fail


def test_tensorrt_that_is_not_installed(cuda: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        EngineError, match=r"TensorRT is not installed; pip install 'action-streamer\[tensorrt\]'.*JetPack"
    ):
        build(tmp_path)
    assert str(why_not()).startswith("TensorRT is not installed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise OSError('libnvinfer.so.10: cannot open shared object file')", "libraries cannot be loaded.*libnvinfer"),
        (
            "raise ImportError('libcudart.so.12: cannot open')",
            "libraries cannot be loaded .*libcudart.*install it again",
        ),
        ("import tensorrt_libs_that_are_not_there", "installed in part .*tensorrt_libs_that_are_not_there"),
    ],
)
def test_tensorrt_whose_libraries_are_missing(
    line: str, message: str, tmp_path: Path, cuda: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=message):
        build(tmp_path)


def test_cuda_bindings_that_are_not_installed(trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "cuda-bindings cannot be used" in str(why_not())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            Status.cudaErrorInsufficientDriver,
            "no usable GPU: CUDA says cudaErrorInsufficientDriver; the NVIDIA driver is",
        ),
        (Status.cudaErrorNoDevice, "no usable GPU: CUDA says cudaErrorNoDevice; no NVIDIA GPU is visible"),
    ],
)
def test_a_machine_without_a_driver_or_a_gpu(
    status: Status, message: str, trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path
) -> None:
    path, spec = build(tmp_path)
    cuda.fails["cudaGetDeviceCount"] = status
    trt.Runtime = None  # type: ignore[assignment, method-assign]  # 8.6 would crash: nothing may come near it
    with pytest.raises(EngineError, match=message):
        TensorRTEngine(path, spec)
    assert message in str(why_not())


def test_a_driver_without_any_gpu(trt: FakeTensorRT, cuda: FakeRuntime) -> None:
    assert why_not() is None
    cuda.devices = 0
    assert "no NVIDIA GPU is visible" in str(why_not())


def test_a_driver_library_that_cannot_be_loaded(
    trt: FakeTensorRT, cuda: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cuda, "cudaGetDeviceCount", cannot)
    assert "no usable GPU: Failed to dlopen libcuda.so.1; the NVIDIA driver is missing" in str(why_not())


def test_the_real_cuda_bindings_say_that_there_is_no_gpu() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        assert Device().name
    else:
        with pytest.raises(EngineError, match="no usable GPU: CUDA says cudaError"):
            Device()


def test_the_real_cuda_bindings_have_all_that_the_engine_calls() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    called = [name for name in dir(FakeRuntime) if name.startswith("cuda")]
    assert [name for name in called if not hasattr(runtime, name)] == []
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeRelaxed")
    for kind in ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"):
        assert hasattr(runtime.cudaMemcpyKind, kind)
    for status in Status:
        assert hasattr(runtime.cudaError_t, status.name)


@pytest.mark.parametrize(
    ("field", "value"), [("tensorrt", "8.6.1"), ("gpu", "NVIDIA Other"), ("compute_capability", "9.0")]
)
def test_an_engine_of_another_version_or_gpu(field: str, value: str, trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    facts = msgspec.structs.replace(built_for(path, spec), **{field: value})
    with pytest.raises(
        EngineError, match=rf"was built by .*{value}.*but here is TensorRT 10\.3\.0 on NVIDIA Fake.*build it again"
    ):
        TensorRTEngine(path, msgspec.structs.replace(spec, engine=facts))


def test_an_engine_that_was_built_with_another_driver_runs(
    trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path
) -> None:
    path, spec = build(tmp_path)
    older = msgspec.structs.replace(built_for(path, spec), driver="12.2")
    assert TensorRTEngine(path, msgspec.structs.replace(spec, engine=older)).rows == 2


def test_a_sidecar_that_is_not_an_engines(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, _ = build(tmp_path)
    with pytest.raises(EngineError, match="its sidecar does not say which TensorRT and GPU it was built for; build it"):
        TensorRTEngine(path, SPEC)


def test_an_engine_of_another_model(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    for other, message in (
        ({"labels": ("a", "b")}, r"logits is FLOAT \[2, 3\], and should be FLOAT \[2, 2\]"),
        ({"height": 8}, r"frames is UINT8 \[2, 4, 6, 3\], and should be UINT8 \[2, 8, 6, 3\]"),
        ({"states": spec.states[:1]}, r"seen is HALF \[2\], and should be not there \[\]"),
        (
            {"states": (*spec.states, TensorSpec("more", (), "float32"))},
            r"more is not there \[\], and should be FLOAT or",
        ),
    ):
        with pytest.raises(EngineError, match="is not the step of toy with 2 rows: " + message):
            TensorRTEngine(path, msgspec.structs.replace(spec, **other))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (True, r"cannot read this graph: node 7 node_Foo_7 \(Foo\): no importer for Foo; export"),
        (False, "cannot read this graph: node 7: no importer for Foo; export"),
    ],
)
def test_a_graph_that_cannot_be_parsed_names_the_node(
    named: bool, message: str, trt: FakeTensorRT, tmp_path: Path
) -> None:
    names = {"node_name": lambda: "node_Foo_7", "node_operator": lambda: "Foo"} if named else {}
    trt.parse_error = types.SimpleNamespace(node=lambda: 7, desc=lambda: "no importer for Foo", **names)
    trt.fails = "parse"
    with pytest.raises(EngineError, match=message):
        build(tmp_path)
    assert not (tmp_path / "toy.engine").exists()


def test_a_file_that_is_no_graph_is_told_by_the_parsers_log(trt: FakeTensorRT, tmp_path: Path) -> None:
    trt.fails, trt.logs = "parse", "ModelImporter.cpp: failed to parse ONNX model"
    with pytest.raises(EngineError, match=r"cannot read this graph: ModelImporter\.cpp: failed to parse ONNX model"):
        build(tmp_path)


def test_a_build_that_gives_nothing_is_told_by_the_log(trt: FakeTensorRT, tmp_path: Path) -> None:
    trt.fails, trt.logs = "build", "Could not find any implementation for node conv1"
    with pytest.raises(
        EngineError, match=r"TensorRT 10\.3\.0 cannot build this graph: Could not find any implementation"
    ):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.fp16.onnx"]


def test_a_graph_of_another_row_count_or_model_is_not_built(trt: FakeTensorRT, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is a graph of 1 rows and cannot be built for 2; export it again"):
        build(tmp_path, graph=write_graph(tmp_path, rows=1))
    graph = write_graph(tmp_path)
    other = msgspec.structs.replace(SPEC, width=9)
    with pytest.raises(EngineError, match="is not the step of toy"):
        build_engine(graph, other, tmp_path / "toy.engine", rows=2, precision="fp16", progress=print)


def test_an_engine_that_cannot_be_loaded_is_told_by_the_log(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    trt.fails, trt.logs = "load", "Serialization assertion magicTagRead == kMAGIC_TAG failed."
    with pytest.raises(EngineError, match=r"cannot load this engine: Serialization assertion.*; build it again"):
        TensorRTEngine(path, spec)


def test_files_that_cannot_be_read_or_written(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    path.unlink()
    with pytest.raises(EngineError, match=r"toy\.engine: cannot be read: No such file"):
        TensorRTEngine(path, spec)
    with pytest.raises(EngineError, match=r"none\.onnx: cannot be read: No such file"):
        build(tmp_path, graph=tmp_path / "none.onnx")
    path.mkdir()  # a file cannot take its place
    with pytest.raises(EngineError, match=r"toy\.engine: cannot be written: Is a directory"):
        build(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_null_pointer_instead_of_a_builder_or_a_runtime(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    trt.no_gpu = True
    with pytest.raises(EngineError, match="TensorRT finds no usable driver or GPU; `nvidia-smi` must list one"):
        build(tmp_path)
    with pytest.raises(EngineError, match="TensorRT finds no usable driver or GPU"):
        TensorRTEngine(path, spec)


def test_a_gpu_whose_memory_is_full(trt: FakeTensorRT, cuda: FakeRuntime, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    trt.fails, trt.logs = "context", "Requested amount of GPU memory could not be allocated"
    with pytest.raises(EngineError, match="no room on the GPU for a state of 2 rows: Requested amount"):
        engine.new_state(2)
    trt.fails = ""
    cuda.fails["cudaMalloc"] = Status.cudaErrorMemoryAllocation
    with pytest.raises(
        EngineError, match="cudaMalloc failed: CUDA says cudaErrorMemoryAllocation; the GPU's memory is"
    ):
        engine.new_state(2)


@pytest.mark.parametrize("what", ["address", "run"])
def test_an_engine_that_does_not_run(what: str, trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    trt.fails = what
    with pytest.raises(EngineError, match=r"toy\.engine: TensorRT cannot run this engine: it gives no reason"):
        engine.new_state(2)


def test_the_tensors_of_torch_tensorrt_are_known_by_their_numbers(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    plan = json.loads(path.read_text())
    for tensor, name in zip(plan["inputs"][3:], ("state_0", "state_1"), strict=True):
        tensor[0] = name
    for number, tensor in enumerate(plan["outputs"]):
        tensor[0] = f"output{number}"
    path.write_text(json.dumps(plan))
    names = {"state_0": "sum", "state_1": "seen", "output0": "logits", "output1": "ready", "output2": "sum.out"}
    names |= {"output3": "seen.out"}
    trt.compute = lambda inputs: numbered(toy({names.get(name, name): value for name, value in inputs.items()}), names)
    engine = TensorRTEngine(path, spec)
    state = engine.new_state(2)
    engine.step(grey(1, 2), YES, NO, state)
    assert engine.step(grey(1, 2), YES, NO, state)[0].tolist() == [[2, 4, 2], [4, 8, 2]]


def numbered(outputs: Arrays, names: dict[str, str]) -> Arrays:
    return {number: outputs[name] for number, name in names.items() if name in outputs}
