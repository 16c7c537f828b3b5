"""Building for OpenVINO, for real, and what holds for all builds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import engines.build.install
import engines.loading
from engines import EngineError, EngineSpec, load_engine
from engines.backends.openvino import has_bf16
from engines.build.certificate import processor, runtime
from engines.build.install import verify
from engines.cache import cache_folder, local_sidecar
from engines.loading import choose_backend, precision_of
from engines.spec import Certificate, read_spec, write_spec

from .installs import STEPS, build, quiet, without_torch

pytestmark = pytest.mark.usefixtures("empty_cache")


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


def test_the_shipped_models_certificates_go_into_the_cache_and_are_found_there(empty_cache: Path) -> None:
    shipped = engines.loading.WEIGHTS / "default.json"
    before = shipped.read_bytes()
    done = build("default", "openvino", precision="fp32", rebuild=True)
    assert shipped.read_bytes() == before
    assert done.sidecar == local_sidecar(read_spec(shipped))
    assert empty_cache in done.sidecar.parents
    assert done.certificates[0].steps < 1000
    assert load_engine("default", "openvino").spec.certificates == done.certificates


def test_a_model_in_a_read_only_folder_has_its_certificates_in_the_cache(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sidecar: Path, spec: EngineSpec) -> None:
        if sidecar.parent == model.parent:
            raise PermissionError(13, "Permission denied")
        write_spec(sidecar, spec)

    monkeypatch.setattr(engines.build.install, "write_spec", refuse)
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

    monkeypatch.setattr(engines.build.install.Install, "compare", compare)


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16 arithmetic")
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


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16 arithmetic")
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


def test_without_torch_float32_has_nothing_to_be_compared_with(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)
    with pytest.raises(EngineError, match="nothing to compare mine with: torch is not installed; pip install"):
        build(model, "openvino", precision="fp32")


def test_auto_says_why_it_does_not_take_the_better_ones(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(model)
    assert engine.backend == "openvino"
    assert engine.why == "no NVIDIA GPU found"
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
