"""Every way in which TensorRT, CUDA or an engine file fails becomes one error that says what to do."""

from __future__ import annotations

import sys
import types
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from engines import EngineError, TensorSpec
from engines.backends.cuda import FUNCTIONS, Device, load_driver
from engines.backends.tensorrt import TensorRTEngine, build_engine, built_for, why_not

from ..toy_engine import SPEC, build, write_graph
from .fake_cuda import FakeDriver, Status
from .fake_tensorrt import FakeTensorRT


def test_tensorrt_that_is_not_installed(cuda: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"TensorRT is not installed; pip install 'action-streamer\[tensorrt\]'"):
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
    line: str, message: str, tmp_path: Path, cuda: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=message):
        build(tmp_path)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            Status.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            "no usable GPU: CUDA says CUDA_ERROR_SYSTEM_DRIVER_MISMATCH; the driver was updated",
        ),
        (Status.CUDA_ERROR_NO_DEVICE, "no usable GPU: CUDA says CUDA_ERROR_NO_DEVICE; no NVIDIA GPU is visible"),
    ],
)
def test_a_machine_without_a_driver_or_a_gpu(
    status: Status, message: str, trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path
) -> None:
    path, spec = build(tmp_path)
    cuda.fails["cuInit"] = status
    trt.Runtime = None  # type: ignore[assignment, method-assign]  # 8.6 would crash: nothing may come near it
    with pytest.raises(EngineError, match=message):
        TensorRTEngine(path, spec)
    assert message in str(why_not())


def test_a_driver_without_any_gpu(trt: FakeTensorRT, cuda: FakeDriver) -> None:
    assert why_not() is None
    cuda.devices = 0
    assert "no NVIDIA GPU is visible" in str(why_not())


def test_a_machine_without_the_drivers_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    load_driver.cache_clear()
    monkeypatch.setattr("engines.backends.cuda.ctypes.CDLL", missing)
    with pytest.raises(EngineError, match=r"no usable GPU: no NVIDIA driver is here \(libcuda\.so\.1\): install"):
        load_driver()


def test_a_driver_that_is_too_old_for_a_function(trt: FakeTensorRT, cuda: FakeDriver) -> None:
    cuda.lacks.add("cuGraphInstantiateWithFlags")
    with pytest.raises(EngineError, match="the NVIDIA driver is too old: it has no cuGraphInstantiateWithFlags; upd"):
        Device().call("cuGraphInstantiateWithFlags", 1, 0)


def test_a_status_that_the_driver_has_no_name_for(cuda: FakeDriver) -> None:
    cuda.fails["cuInit"] = 4242  # type: ignore[assignment]
    with pytest.raises(EngineError, match="CUDA says error 4242; if it happens again"):
        Device()


def test_the_drivers_own_library_says_that_there_is_no_gpu_or_names_it() -> None:
    load_driver.cache_clear()
    try:
        device = Device()
    except EngineError as error:
        assert str(error).startswith("no usable GPU: ")  # noqa: PT017 - either is right, by the machine
    else:
        assert device.name
        assert device.free_bytes() > 0


def test_the_fake_driver_has_just_what_the_engine_calls() -> None:
    assert {name for name in dir(FakeDriver) if name[:2] == "cu" and name[2].isupper()} == set(FUNCTIONS)


def test_a_tensorrt_for_a_newer_cuda_than_the_drivers_is_refused_before_it_crashes(
    trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"tensorrt-cu13-libs"}

    def distribution(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return name

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 is for CUDA 13, but the NVIDIA driver knows CUDA 12\.6"):
        build(tmp_path)
    cuda.version = 13000
    assert build(tmp_path)[0].is_file()
    installed = {"tensorrt-cu12-libs"}
    cuda.version = 12060
    assert build(tmp_path)[0].is_file()


def test_on_a_jetson_the_remedy_is_the_systems_package(
    cuda: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("engines.errors.JETSON", tmp_path)
    with pytest.raises(EngineError, match=r"TensorRT is not installed; sudo apt install python3-libnvinfer.*SYSTEM"):
        build(tmp_path)


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


def test_an_engine_that_was_built_with_another_driver_runs(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
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


def test_an_older_complaint_does_not_hide_the_cause(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    engine.log.errors.append("an older complaint")
    trt.fails = "context"
    with pytest.raises(EngineError, match="no room on the GPU for a state of 2 rows: it gives no reason"):
        engine.new_state(2)


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


def test_a_gpu_whose_memory_is_full(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    trt.fails, trt.logs = "context", "Requested amount of GPU memory could not be allocated"
    with pytest.raises(EngineError, match="no room on the GPU for a state of 2 rows: Requested amount"):
        engine.new_state(2)
    trt.fails = ""
    cuda.fails["cuMemAlloc_v2"] = Status.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(
        EngineError, match="cuMemAlloc_v2 failed: CUDA says CUDA_ERROR_OUT_OF_MEMORY; the GPU's memory is"
    ):
        engine.new_state(2)


@pytest.mark.parametrize("what", ["address", "run"])
def test_an_engine_that_does_not_run(what: str, trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    trt.fails = what
    with pytest.raises(EngineError, match=r"toy\.engine: TensorRT cannot run this engine: it gives no reason"):
        engine.new_state(2)
