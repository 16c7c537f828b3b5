from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.bench.load import main


def test_the_figures_of_a_run_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "load.json"
    main(["--sources", "2", "--seconds", "3", "--slow", "150", "--json", str(path)])
    figures, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert 0 < figures["entered_ms_oldest"] <= 250
    assert figures["captured"] >= figures["inferred"] + sum(figures["dropped"].values()) > 0
    assert figures["step_ms_p50"] >= 150
    assert figures["cpu_percent"] > 0
    assert figures["memory_mb"] > 10
    assert f"{figures['captured']} captured, {figures['inferred']} inferred" in printed


@pytest.mark.parametrize("wrong", [["--sources", "0"], ["--seconds", "0"]])
def test_nothing_to_measure_is_an_error(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
    assert "must be positive" in capsys.readouterr().err
