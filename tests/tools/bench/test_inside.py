from __future__ import annotations

import pytest

from tools.bench import inside
from tools.bench.__main__ import main


def test_what_the_engine_costs_inside_is_told_beside_what_it_costs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--parts", "inside", "--cameras", "2", "--seconds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = lines[1].split()
    values = lines[2].split()
    assert names[:2] == ["cameras", "core"]
    assert values[0] == "2"
    assert 0 < float(values[1]) < 10


def test_every_frame_that_came_is_inferred_or_counted_as_lost() -> None:
    row = inside.measure(3, seconds=2)
    assert row.cores > row.alone / 3 > 0
    assert 1 <= row.rows <= 3
    assert 0 < row.age_ms_p50 <= row.age_ms_p99
