from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

import engines.loading
from streamer.check import model_lines, report


def test_a_missing_backend_is_told_with_its_remedy_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    lines = dict(report())
    told = next(line for line in lines if "eager" in line)
    assert "not here: torch is not installed; pip install" in told
    assert all(lines.values())


def test_a_damaged_model_is_told_and_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = shutil.copytree(engines.loading.WEIGHTS, tmp_path / "weights")
    (folder / "default.pt").write_bytes(b"damaged")
    monkeypatch.setattr(engines.loading, "WEIGHTS", folder)
    assert [line for line, good in report() if not good] == [
        f"model     default: {folder}/default.pt: does not match its sidecar: "
        "it is truncated, changed or another model's; copy both files again"
    ]


def test_models_are_described_in_a_line() -> None:
    (line,) = model_lines(with_labels=False)
    assert line.startswith("default: tcm on resnet18")
    assert "10 labels, 112x112 at 10 frames a second, 8 frames of memory" in line
    assert "    shaking" in list(model_lines(with_labels=True))
