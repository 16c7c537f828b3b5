"""Every way in which TensorRT, CUDA or an engine file fails becomes one error that says what to do."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import msgspec
import pytest

from engines import EngineError, TensorSpec
from engines.backends.cuda import Device
from engines.backends.tensorrt import TensorRTEngine, build_engine, built_for, why_not

from ..toy_engine import SPEC, build, write_graph
from .fake_cuda import FakeRuntime, Status
from .fake_tensorrt import FakeTensorRT


def test_tensorrt_that_is_not_installed(cuda: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"TensorRT is not installed; pip install '\.\[tensorrt\]'.*JetPack"):
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
