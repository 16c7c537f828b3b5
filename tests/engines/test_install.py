"""Building for a machine: OpenVINO for real, TensorRT on a fake GPU whose steps OpenVINO computes."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov
import pytest

import engines.install
import engines.loading
from engines import EngineError, EngineSpec, load_engine
from engines.cache import cache_folder, local_sidecar
from engines.certificate import processor, runtime
from engines.install import Installed, add_graph, build_for_here, verify
from engines.loading import choose_backend, precision_of
from engines.spec import Certificate, read_spec, sha256, write_spec

from .fake_cuda import FakeRuntime
from .fake_tensorrt import Arrays, FakeTensorRT, step_tensors

STEPS = 12
Build = Callable[..., Installed]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model with a name of its own, without certificates, with an "fp16 graph" for the fake."""
    folder, shipped = tmp_path / "models", engines.loading.WEIGHTS / "default.json"
    folder.mkdir()
    spec = read_spec(shipped)
    for kind in ("pt", "onnx"):
        shutil.copy(shipped.with_suffix(f".{kind}"), folder / f"mine.{kind}")
    graph = folder / "mine.fp16.onnx"
    graph.write_text(json.dumps(step_tensors(spec, -1)))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_spec(folder / "mine.json", msgspec.structs.replace(spec, name="mine", files=files, certificates=()))
    return folder / "mine.onnx"


def quiet(line: str) -> None:
    """Tells nobody."""


def build(model: str | Path, backend: str, *told: list[str], **options: Any) -> Installed:
    settings: dict[str, Any] = {"steps": STEPS, "progress": told[0].append if told else quiet}
    return build_for_here(model, backend, **settings | options)


class Gpu:
    """A fake GPU and TensorRT; `error` is added to every logit of the last label."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error, self.compiled = 0.0, {}  # type: ignore[var-annotated]
        self.graph = engines.loading.WEIGHTS / "default.onnx"
        cuda, bindings, package = FakeRuntime(), types.ModuleType("cuda.bindings"), types.ModuleType("cuda")
        bindings.runtime = cuda  # type: ignore[attr-defined]
        self.tensorrt = FakeTensorRT("10.3.0", cuda, self.compute)
        self.cuda = cuda
        for name, module in {"cuda": package, "cuda.bindings": bindings, "tensorrt": self.tensorrt}.items():
            module.__spec__ = importlib.util.spec_from_loader(name, None)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(engines.loading, "no_gpu", lambda: None)

    def compute(self, inputs: Arrays) -> Arrays:
        rows = len(inputs["frames"])
        if rows not in self.compiled:
            graph = ov.Core().read_model(self.graph)
            graph.reshape({port.any_name: [rows, *list(port.partial_shape)[1:]] for port in graph.inputs})
            options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
            self.compiled[rows] = ov.Core().compile_model(graph, "CPU", options)
        states = {name: value.astype(np.float32) for name, value in inputs.items() if value.dtype.kind == "f"}
        found = {out.any_name: value for out, value in self.compiled[rows](inputs | states).items()}
        logits = found["logits"].copy()
        logits[:, -1] += self.error
        return found | {"logits": logits}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def test_openvino_is_compared_and_its_certificate_installed_beside_the_model(model: Path) -> None:
    told: list[str] = []
    done = build(model, "openvino", told, precision="fp32", rows=2)
    assert (done.path, done.sidecar, done.found) == (model, model.with_suffix(".json"), False)
    (certificate,) = read_spec(model).certificates
    assert (certificate.backend, certificate.precision, certificate.fault) == ("openvino", "fp32", None)
    assert certificate.steps >= STEPS + 3 + 3
    assert certificate.runtime.startswith("OpenVINO ")
    assert certificate.reference.startswith("torch ")
    assert any(line.startswith("compiling mine.onnx") for line in told)
    told.clear()
    assert build(model, "openvino", told, precision="fp32").found
    assert told[-1:] == [f"{read_spec(model).version}: is installed already (--rebuild compares it again)"]
    assert not build(model, "openvino", precision="fp32", rebuild=True).found
    assert not build(model, "openvino", precision="fp32", steps=2 * STEPS).found  # it was shorter


def test_the_shipped_models_certificates_go_into_the_cache_and_are_found_there(cache: Path) -> None:
    shipped = engines.loading.WEIGHTS / "default.json"
    before = shipped.read_bytes()
    done = build("default", "openvino", precision="fp32", rebuild=True)
    assert shipped.read_bytes() == before
    assert done.sidecar == local_sidecar(read_spec(shipped))
    assert cache in done.sidecar.parents
    assert done.certificates[0].steps < 1000
    assert load_engine("default", "openvino").spec.certificates == done.certificates


def test_a_model_in_a_read_only_folder_has_its_certificates_in_the_cache(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sidecar: Path, spec: EngineSpec) -> None:
        if sidecar.parent == model.parent:
            raise PermissionError(13, "Permission denied")
        write_spec(sidecar, spec)

    monkeypatch.setattr(engines.install, "write_spec", refuse)
    told: list[str] = []
    assert build(model, "openvino", told, precision="fp32").sidecar == local_sidecar(read_spec(model))
    assert any("cannot be written; the certificates go into the cache" in line for line in told)


def test_a_cache_that_cannot_be_made_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"cannot be written: .*; set ACTION_STREAMER_CACHE to a folder that can"):
        build("default", "openvino", precision="fp32", rebuild=True)


def test_the_cache_is_where_the_platform_and_the_user_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("ACTION_STREAMER_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("ACTION_STREAMER_CACHE")
    assert cache_folder() == Path("/x/action-streamer")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "action-streamer"


def fail_bf16(monkeypatch: pytest.MonkeyPatch, difference: float = 0.5) -> None:
    """Have every comparison find this difference in what is not float32."""

    def compare(self: object, expected: object, made: list[Any], rows: object) -> list[Certificate]:
        return [
            Certificate(
                engine.backend, kind, STEPS, 0.0 if kind == "fp32" else difference, 1.0,
                runtime=runtime(engine), processor=processor(engine.spec),
            )
            for engine in made
            for kind in [precision_of(engine)]
        ]  # fmt: skip

    monkeypatch.setattr(engines.install.Install, "compare", compare)


@pytest.mark.skipif(not engines.openvino.has_bf16(), reason="this processor has no bf16 arithmetic")
def test_a_precision_that_fails_is_left_out_or_refused_or_forced(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_bf16(monkeypatch)
    told: list[str] = []
    assert [c.precision for c in build(model, "openvino", told).certificates] == ["fp32"]
    assert told[-1].startswith("not installed: mine in bf16 on openvino fails its certificate: a probability differs")
    assert "fp32" in load_engine(model).device
    assert build(model, "openvino").found
    with pytest.raises(EngineError, match=r"by 0\.5, more than the 0\.02 allowed; nothing is installed \(--force"):
        build(model, "openvino", precision="bf16")
    assert len(read_spec(model).certificates) == 1
    build(model, "openvino", precision="bf16", force=True)
    assert [c.precision for c in read_spec(model).certificates] == ["fp32", "bf16"]
    assert not caplog.records
    assert "bf16" in load_engine(model).device
    assert "mine runs in bf16 on openvino without a certificate that holds: a probability differs by 0.5" in caplog.text


@pytest.mark.skipif(not engines.openvino.has_bf16(), reason="this processor has no bf16 arithmetic")
def test_bf16_without_a_certificate_runs_with_a_warning(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_engine(model, precision="bf16")
    assert "without a certificate that holds: nobody has compared it with the eager network" in caplog.text
    caplog.clear()
    load_engine(model, precision="fp32")
    assert not caplog.records


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("eager", {}, "'eager' needs no build"),
        ("openvino", {"precision": "fp16"}, "the openvino backend computes in fp32 or bf16, not in fp16"),
        ("tensorrt", {"precision": "bf16"}, "the tensorrt backend computes in fp16 or fp32, not in bf16"),
        ("openvino", {"precision": "int8"}, "int8 is left out"),
        ("openvino", {"rows": 0}, "--rows 0: an engine needs a row for each stream"),
        ("openvino", {"via": "torch-tensorrt"}, "--via torch-tensorrt builds TensorRT engines"),
        ("tensorrt", {}, "nothing can be built for tensorrt here: tensorrt is not installed; pip install"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_sentence(backend: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        build("default", backend, **options)


def test_a_missing_or_wrong_file_is_told(model: Path) -> None:
    with pytest.raises(EngineError, match="no such model file"):
        build(model.with_name("other.onnx"), "openvino")
    with pytest.raises(EngineError, match="is an engine already"):
        build(model.with_name("mine.engine"), "openvino")
    model.write_bytes(b"damaged")
    with pytest.raises(EngineError, match="does not match its sidecar"):
        build(model, "openvino")


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))


def test_without_torch_float32_has_nothing_to_be_compared_with(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    with pytest.raises(EngineError, match="nothing to compare mine with: torch is not installed; pip install"):
        build(model, "openvino", precision="fp32")


def test_a_tensorrt_engine_is_built_compared_and_found_by_runs(model: Path, gpu: Gpu, cache: Path) -> None:
    with pytest.raises(
        EngineError,
        match=rf"no engine is built for mine in fp16 or fp32, 1 row, TensorRT 10\.3\.0 and NVIDIA Fake.*: "
        rf"streamer build {model} --backend tensorrt --precision fp16 --rows 1",
    ):
        load_engine(model, "tensorrt")
    told: list[str] = []
    done = build(model, "tensorrt", told, rows=2)
    assert done.path.parent == cache / "tensorrt"
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


def test_an_engine_of_another_driver_is_not_taken(model: Path, gpu: Gpu) -> None:
    first = build(model, "tensorrt")
    spec = read_spec(first.path)
    assert spec.engine
    write_spec(first.sidecar, msgspec.structs.replace(spec, engine=msgspec.structs.replace(spec.engine, driver="9.0")))
    with pytest.raises(EngineError, match="no engine is built for mine"):
        load_engine(model, "tensorrt")


def test_a_tensorrt_engine_that_fails_its_certificate_is_not_left_behind(
    model: Path, gpu: Gpu, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.error = 100.0
    with pytest.raises(EngineError, match=r"mine in fp16 on tensorrt fails its certificate: .*\(--force installs it"):
        build(model, "tensorrt", precision="fp16")
    assert not [path for path in (cache / "tensorrt").iterdir() if path.suffix in {".engine", ".json"}]
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

    monkeypatch.setattr("engines.build.export_graph", export)
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


def test_auto_says_why_it_does_not_take_the_better_ones(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(model)
    assert engine.backend == "openvino"
    assert "no NVIDIA driver is here" in engine.why or "the NVIDIA driver sees no GPU" in engine.why
    assert load_engine(model, "openvino").why == ""
    monkeypatch.setattr(engines.loading, "no_gpu", lambda: None)
    backend, why = choose_backend(model, "auto", 1)
    assert backend == "openvino"  # torch is built for the CPU here
    assert "TensorRT cannot be used: tensorrt is not installed" in why
    assert "does not see the GPU" in why
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    backend, why = choose_backend(model, "auto", 1)
    assert (backend, why.split(":")[0]) == ("eager", "torch sees a GPU, and TensorRT cannot be used")
    assert choose_backend(model, "bf16", 1)[0] == "openvino"


def test_verify_measures_openvino_and_refuses_the_reference_itself(model: Path) -> None:
    certificate = verify(model, precision="fp32", steps=STEPS, progress=quiet)
    assert (certificate.backend, certificate.precision, certificate.fault) == ("openvino", "fp32", None)
    assert read_spec(model).certificates == ()
    with pytest.raises(EngineError, match="is the eager network itself"):
        verify(model.with_suffix(".pt"), progress=quiet)
