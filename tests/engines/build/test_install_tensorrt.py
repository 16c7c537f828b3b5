"""Building for TensorRT, on a fake GPU whose steps OpenVINO computes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from engines import EngineError, EngineSpec, load_engine
from engines.build.install import add_graph, build_for_here, verify
from engines.loading import choose_backend
from engines.spec import read_spec, sha256, write_spec

from ..backends.fake_tensorrt import step_tensors
from .installs import STEPS, Gpu, build, quiet, without_torch

pytestmark = pytest.mark.usefixtures("empty_cache")


def test_a_tensorrt_engine_is_built_compared_and_found_by_runs(model: Path, gpu: Gpu, empty_cache: Path) -> None:
    with pytest.raises(
        EngineError,
        match=rf"no engine is built for mine in fp16 or fp32, 1 row, TensorRT 10\.3\.0 and NVIDIA Fake.*: "
        rf"streamer build {model} --backend tensorrt --precision fp16 --rows 1",
    ):
        load_engine(model, "tensorrt")
    told: list[str] = []
    done = build(model, "tensorrt", told, rows=2)
    assert done.path.parent == empty_cache / "tensorrt"
    assert [done.path.name, done.sidecar.name] == [done.path.name, done.path.with_suffix(".json").name]
    (certificate,) = done.certificates
    assert (certificate.backend, certificate.precision, certificate.processor) == ("tensorrt", "fp16", "NVIDIA Fake")
    assert 0 < certificate.max_probability_difference < 2e-2
    assert any("builds mine.fp16.onnx for NVIDIA Fake" in line for line in told)
    told.clear()
    assert build(model, "tensorrt", told, rows=2).found
    assert told == [f"{done.path}: is built already (--rebuild builds it again)"]
    for rows in (1, 2):
        engine = load_engine(model, "tensorrt", rows=rows)
        assert engine.device == "TensorRT 10.3.0, NVIDIA Fake, fp16, 2 rows"
    assert load_engine(done.path).spec.engine == engine.spec.engine
    assert choose_backend(model, "auto", 2) == ("tensorrt", "it is installed, and an engine is built for this GPU")
    with pytest.raises(EngineError, match=r"there is one in fp16 for 2 rows, TensorRT 10\.3\.0, NVIDIA Fake; build it"):
        load_engine(model, "tensorrt", rows=3)
    assert build(model, "tensorrt", rows=1).path != done.path
    with pytest.raises(EngineError, match="no engine is built for mine in fp32"):
        load_engine(model, "tensorrt", precision="fp32")
    assert load_engine(model, "tensorrt").device.endswith("1 row")
    tuned = msgspec.structs.replace(read_spec(model), events={"enter": 0.9})
    write_spec(model.with_suffix(".json"), tuned)
    assert load_engine(model, "tensorrt").spec.events == tuned.events  # also of an engine that was built before


def test_what_an_engine_is_built_from_is_hashed_once(model: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return sha256(path)

    for module in ("engines.spec", "engines.build.install"):
        monkeypatch.setattr(f"{module}.sha256", counted)
    build(model, "tensorrt")
    assert hashed.count("mine.fp16.onnx") == 1


def test_graphs_that_answer_otherwise_are_told_apart_from_a_precision_and_left_out(model: Path, gpu: Gpu) -> None:
    gpu.cuda.mixed_up = True
    told: list[str] = []
    done = build(model, "tensorrt", told)
    assert any("replayed as CUDA graphs its steps answer otherwise" in line for line in told)
    assert done.certificates[0].fault is None
    gpu.cuda.launches = 0
    engine = load_engine(model, "tensorrt")
    engine.new_state(1)
    assert engine.device.endswith("1 row, without CUDA graphs")
    assert gpu.cuda.launches == 0


def test_an_engine_that_may_not_use_graphs_captures_none(model: Path, gpu: Gpu) -> None:
    build(model, "tensorrt")
    for graphs, told in ((True, "1 row"), (False, "1 row, without CUDA graphs")):
        engine = load_engine(model, "tensorrt", graphs=graphs)
        state = engine.new_state(1)
        assert engine.device.endswith(told)
        assert len(gpu.cuda.graphs) == (2 if graphs else 0)
        del state
        engine.close()


def give_a_float32_graph(model: Path) -> None:
    """One that the fake TensorRT reads."""
    spec = read_spec(model)
    model.write_text(json.dumps(step_tensors(spec, -1, "FLOAT")))
    write_spec(
        model.with_suffix(".json"), msgspec.structs.replace(spec, files=spec.files | {model.name: sha256(model)})
    )


def test_auto_takes_a_float32_engine_where_no_faster_one_holds(model: Path, gpu: Gpu) -> None:
    give_a_float32_graph(model)
    done = build(model, "tensorrt", precision="fp32")
    assert done.path == Path(getattr(load_engine(model, "tensorrt"), "path"))  # noqa: B009
    with pytest.raises(EngineError, match=r"in fp16, 1 row,.*there is one in fp32 for 1 rows"):
        load_engine(model, "tensorrt", precision="fp16")


def test_where_float16_fails_its_certificate_float32_is_built_instead(model: Path, gpu: Gpu) -> None:
    give_a_float32_graph(model)
    gpu.error = 100.0
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("; building in fp32"):
            gpu.error = 0.0

    done = build_for_here(model, "tensorrt", steps=STEPS, progress=tell)
    assert [c.precision for c in done.certificates] == ["fp32"]
    assert any("mine in fp16 on tensorrt fails its certificate" in line for line in told)
    assert build(model, "tensorrt").path == done.path
    assert load_engine(model, "tensorrt").device.endswith("fp32, 1 row")


def test_where_tensorrt_has_no_kernels_in_float16_float32_is_built_instead(model: Path, gpu: Gpu) -> None:
    give_a_float32_graph(model)
    gpu.tensorrt.fails, gpu.tensorrt.logs = "build", "Could not find any implementation for node where_11"
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if line.endswith("; building in fp32"):
            gpu.tensorrt.fails = ""

    assert build_for_here(model, "tensorrt", steps=STEPS, progress=tell).path == build(model, "tensorrt").path
    refused = "cannot build this graph: Could not find any implementation for node where_11; building in fp32"
    assert any(refused in line for line in told)
    assert load_engine(model, "tensorrt").device.endswith("fp32, 1 row")


def test_an_engine_of_another_driver_is_not_taken(model: Path, gpu: Gpu) -> None:
    first = build(model, "tensorrt")
    spec = read_spec(first.path)
    assert spec.engine
    write_spec(first.sidecar, msgspec.structs.replace(spec, engine=msgspec.structs.replace(spec.engine, driver="9.0")))
    with pytest.raises(EngineError, match="no engine is built for mine"):
        load_engine(model, "tensorrt")


def test_a_tensorrt_engine_that_fails_its_certificate_is_not_left_behind(
    model: Path, gpu: Gpu, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.error = 100.0
    with pytest.raises(EngineError, match=r"mine in fp16 on tensorrt fails its certificate: .*\(--force installs it"):
        build(model, "tensorrt", precision="fp16")
    assert not [path for path in (empty_cache / "tensorrt").iterdir() if path.suffix in {".engine", ".json"}]
    told: list[str] = []
    done = build(model, "tensorrt", told, force=True)
    assert told[-1].startswith("installed by --force: mine in fp16 on tensorrt fails")
    load_engine(model, "tensorrt")
    assert "mine runs in fp16 on tensorrt without a certificate that holds: a probability differs" in caplog.text
    assert verify(done.path, steps=STEPS, against=model.with_suffix(".pt"), progress=quiet).fault


def test_an_engine_file_is_verified_against_weights_that_are_given_or_shipped(model: Path, gpu: Gpu) -> None:
    done = build(model, "tensorrt")
    with pytest.raises(EngineError, match=r"nothing to compare mine with: .*mine-.*\.pt is missing"):
        verify(done.path, steps=STEPS, progress=quiet)
    before = done.sidecar.read_bytes()
    certificate = verify(done.path, steps=STEPS, against=model.with_suffix(".pt"), progress=quiet)
    assert (certificate.fault, certificate.backend) == (None, "tensorrt")
    assert done.sidecar.read_bytes() == before


def test_without_torch_a_tensorrt_engine_is_compared_with_openvino_and_says_so(
    model: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch(monkeypatch)
    told: list[str] = []
    (certificate,) = build(model, "tensorrt", told).certificates
    assert certificate.reference.startswith("OpenVINO")
    assert any(line.endswith("comparing with OpenVINO in float32 instead") for line in told)
    model.with_name("mine.fp16.onnx").unlink()
    with pytest.raises(EngineError, match=r"mine\.fp16\.onnx: is not there, and cannot be exported without torch"):
        build(model, "tensorrt", rebuild=True)


def fake_export(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Have exports write what the fake TensorRT reads; the list of them."""
    exports: list[tuple[str, str]] = []

    def export(weights: Path, spec: EngineSpec, out: Path, precision: str) -> None:
        exports.append((weights.name, precision))
        out.write_text(json.dumps(step_tensors(spec, -1)))

    monkeypatch.setattr("engines.build.model.export_graph", export)
    return exports


def test_a_graph_that_is_not_there_is_exported_once(model: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = fake_export(monkeypatch)
    model.with_name("mine.fp16.onnx").unlink()
    first = build(model, "tensorrt")
    assert exports == [("mine.pt", "fp16")]
    assert build(model, "tensorrt").path == first.path
    assert len(exports) == 1


def test_the_graph_alone_is_written_where_no_gpu_is_and_is_all_that_a_machine_without_torch_needs(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = model.with_name("mine.fp16.onnx")
    graph.unlink()
    fake_export(monkeypatch)
    assert add_graph(model) == graph
    assert read_spec(model).files[graph.name] == sha256(graph)
    without_torch(monkeypatch)
    with pytest.raises(EngineError, match=r"cannot be exported without torch: make it where they are \(streamer build"):
        add_graph(model)
    Gpu(monkeypatch)
    assert build(model, "tensorrt").path.is_file()
