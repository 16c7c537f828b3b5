"""What the check of a GPU finds out about an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import load_engine
from tools.errors import ToolError
from tools.gpu import checks
from tools.gpu.__main__ import Journal
from tools.gpu.checks import Finding
from tools.gpu.recorded import Recorded, Recording


def test_a_recorded_run_stands_for_the_reference(tmp_path: Path) -> None:
    engine = load_engine("default", "openvino", threads=1, precision="fp32")
    recording = Recording(engine)
    first = checks.correctness("it", engine, "fp32", recording, steps=12, rows=2)
    recording.save(tmp_path)
    recorded = Recorded(tmp_path, engine.spec)
    assert recorded.rows() == (1, 2)
    again = checks.correctness("it", engine, "fp32", recorded, steps=12, rows=2)
    assert again == first
    assert first.good
    with pytest.raises(ToolError, match="compare fewer"):
        checks.correctness("it", engine, "fp32", Recorded(tmp_path, engine.spec), steps=60, rows=1)


def test_a_run_that_saw_other_frames_is_refused(tmp_path: Path) -> None:
    engine = load_engine("default", "openvino", threads=1, precision="fp32")
    recording = Recording(engine)
    spec, state = engine.spec, recording.new_state(1)
    black, on = np.zeros((1, spec.height, spec.width, 3), np.uint8), np.ones(1, bool)
    recording.step(black, on, on, state)
    recording.save(tmp_path)
    recorded = Recorded(tmp_path, spec)
    with pytest.raises(ToolError, match="saw other frames"):
        recorded.step(black + 1, on, on, recorded.new_state(1))
    with pytest.raises(ToolError, match="holds no recorded run"):
        Recorded(tmp_path / "none", spec)


def test_an_engine_whose_answers_drift_is_bad() -> None:
    engine = load_engine("default", "openvino", threads=1, precision="fp32")

    class Off(Recording):
        def _step(self, frames: Any, active: Any, fresh: Any, state: Any) -> Any:
            logits, ready = super()._step(frames, active, fresh, state)
            return logits[:, ::-1].copy(), ready

    assert not checks.correctness("it", Off(engine), "fp32", engine, steps=8, rows=1).good


def test_what_is_not_given_back_is_told() -> None:
    engine = load_engine("default", "scripted")
    free = iter([1 << 30, (1 << 30) - (1 << 20), (1 << 30) - (1 << 25)])
    assert not checks.leaks("it", engine, 1, lambda: next(free)).good
    assert checks.leaks("it", engine, 1, lambda: 1 << 30).good


def test_findings_are_written_as_they_come_and_a_failure_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(60, tmp_path / "found.json")
    journal.put("it", "fails", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert json.loads((tmp_path / "found.json").read_text())[0]["told"] == "ZeroDivisionError: division by zero"
    journal.put("it", "holds", lambda: Finding("it", "holds", True, "well"))
    assert [one["good"] for one in json.loads((tmp_path / "found.json").read_text())] == [False, True]
    assert "BAD" in capsys.readouterr().out
    spent = Journal(-1, None)
    spent.put("it", "asked", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert spent.findings[0].told.startswith("left out: the budget")
