from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

import engines.loading
from engines import find_models, load_engine
from engines.build.certificate import processor, runtime
from engines.spec import EngineFacts, read_spec, sha256, write_spec
from streamer.commands import trials
from streamer.commands.check import certificate_reports, engine_report, model_lines, model_report, report, trial_reports


@pytest.mark.parametrize(
    ("trial", "broken"),
    [
        (trials.try_video, "streamer.sources.file.open_video"),
        (trials.try_camera, "streamer.sources.rtsp.open_video"),
        (trials.try_labels, "streamer.labels.subscriber.decode"),
    ],
)
def test_what_is_called_ok_was_tried(monkeypatch: pytest.MonkeyPatch, trial: Callable[[], None], broken: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("an argument that this library no longer knows")

    assert trials.fault(trial) is None
    monkeypatch.setattr(trials, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(broken, fail)
    assert trials.fault(trial)


def test_what_was_tried_and_failed_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise TypeError("this library no longer knows that")

    monkeypatch.setattr(trials, "try_video", lambda: None)
    monkeypatch.setattr(trials, "try_labels", lambda: None)
    monkeypatch.setattr(trials, "try_camera", fail)
    assert list(trial_reports()) == [
        ("file      ok, a video is written and read", True),
        ("rtsp      FAILS: TypeError: this library no longer knows that", False),
        ("labels    ok, a message is published and received", True),
    ]


def test_a_missing_backend_is_told_with_its_remedy_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    lines = dict(report())
    told = next(line for line in lines if "eager" in line)
    assert "not here: torch is not installed; pip install" in told
    assert any(line.startswith("hwaccel   cuda: ") for line in lines)
    taken = next(line for line in lines if line.startswith("auto      default runs on openvino: "))
    assert "NVIDIA" in taken
    assert all(lines.values())


def test_certificates_are_told_and_one_that_fails_is_a_failure() -> None:
    engine = load_engine("default", "openvino")
    here = {"runtime": runtime(engine), "processor": processor(engine.spec)}
    known = engine.spec.certificates[0]

    def told(*changes: Mapping[str, object]) -> tuple[str, bool]:
        certificates = tuple(msgspec.structs.replace(known, **change) for change in changes)
        engine.spec = msgspec.structs.replace(engine.spec, certificates=certificates)
        (line,) = certificate_reports(engine)
        return line

    assert told(here) == (f"          certificate openvino {known}", True)
    line, good = told({"runtime": "OpenVINO 1.0", "processor": "Z80"})
    assert good
    assert line.endswith(
        "; made with OpenVINO 1.0 on Z80: `streamer build default --backend openvino` makes this machine's own"
    )
    line, good = told(here | {"max_probability_difference": 0.5})
    assert "FAILS: a probability differs by 0.5" in line
    assert not good
    assert told()[0].lstrip().startswith("no certificate for openvino; `streamer build default")


def test_built_engines_are_told_and_a_damaged_one_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path))
    engine = tmp_path / "tensorrt" / "default-abc.engine"
    engine.parent.mkdir()
    engine.write_bytes(b"plan")
    facts = EngineFacts("10.3.0", "NVIDIA Fake", "8.7", "12.6", "fp16", 2)
    spec = read_spec(find_models()["default"])
    known = msgspec.structs.replace(spec.certificates[0], backend="tensorrt", precision="fp16")
    spec = msgspec.structs.replace(spec, engine=facts, files={engine.name: sha256(engine)}, certificates=(known,))
    write_spec(engine.with_suffix(".json"), spec)
    ((line, good),) = engine_report(engine.with_suffix(".json"))
    assert good
    assert line.startswith(f"engine    {engine}: fp16, 2 rows, TensorRT 10.3.0, NVIDIA Fake; fp16: ")
    engine.write_bytes(b"damaged")
    (line,) = [line for line, good in report() if not good]
    assert "does not match its sidecar" in line


def test_a_damaged_model_is_told_and_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = shutil.copytree(engines.loading.WEIGHTS, tmp_path / "weights")
    (folder / "default.pt").write_bytes(b"damaged")
    monkeypatch.setattr(engines.loading, "WEIGHTS", folder)
    assert [line for line, good in report() if not good] == [
        f"model     default: {folder}/default.pt: does not match its sidecar: "
        "it is truncated, changed or another model's; copy both files again"
    ]


def test_models_are_described_in_a_line() -> None:
    line = next(line for line in model_lines(with_labels=False) if line.startswith("default: "))
    assert line.startswith("default: tcm on resnet18")
    assert "10 labels, 112x112 at 10 frames a second, 8 frames of memory" in line
    assert "    shaking" in list(model_lines(with_labels=True))


def test_what_a_model_tells_of_events_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = shutil.copytree(engines.loading.WEIGHTS, tmp_path / "weights")
    told = {"background": ("still",), "labels": {"shaking": {"enter": 0.9}}}
    spec = msgspec.structs.replace(read_spec(folder / "default.json"), events=told)
    write_spec(folder / "default.json", spec)
    monkeypatch.setattr(engines.loading, "WEIGHTS", folder)
    lines = dict(model_report("default", folder / "default.json"))
    (line,) = [line for line in lines if "events" in line]
    assert line.endswith("{background: [still], labels: {shaking: {enter: 0.9}}}")
