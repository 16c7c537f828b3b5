from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from tools.bench.__main__ import main
from tools.bench.many import PARTS, Row, measure_all, picture, table

ROWS = [Row(cameras=n, subject=s, cores=n * c) for n in (1, 4) for s, c in (("decoding", 0.03), ("program", 0.06))]


@pytest.mark.timeout(300)  # each subject is a process that imports all of this
def test_what_cameras_cost_is_told_by_subject_and_of_the_program_by_part(tmp_path: Path) -> None:
    subjects = ("decoding", "opencv", "capture")
    rows = {row.subject: row for row in measure_all(tmp_path, [2], seconds=1.5, subjects=subjects)}
    assert tuple(rows) == subjects
    assert all(row.cameras == 2 and row.cores > 0 and row.memory_mb > 10 for row in rows.values())
    whole = rows["capture"]
    assert tuple(whole.parts) == PARTS
    assert sum(whole.parts.values()) == pytest.approx(whole.cores, abs=0.02)
    assert whole.parts["decoding"] > whole.parts["labels"] > 0
    assert whole.parts["conversion"] > 0
    assert whole.inferred > 0


def test_the_figures_are_printed_with_what_was_left_out() -> None:
    left_out = Row(cameras=4, subject="ffmpeg", why="there is no ffmpeg here")
    parts = dict.fromkeys(PARTS, 0.01)
    lines = list(table([*ROWS, left_out, Row(cameras=4, subject="capture", parts=parts, age_ms_p50=8, age_ms_p99=30)]))
    assert lines[4].split()[:3] == ["4", "program", "0.240"]
    assert lines[5].endswith("left out: there is no ffmpeg here")
    assert lines[-2].split()[1:] == " ".join(PARTS).split()
    assert lines[-1].split() == ["4", "capture", *["0.010"] * len(PARTS)]


def test_the_growth_is_drawn_as_a_line_for_each_subject() -> None:
    drawn = ET.fromstring(picture(ROWS))
    lines = drawn.findall("{*}polyline")
    assert len(lines) == 2
    first, last = (tuple(map(float, point.split(","))) for point in lines[1].attrib["points"].split())
    assert first[0] < last[0]
    assert first[1] > last[1]  # upwards
    assert {text.text for text in drawn.findall("{*}text")} >= {"decoding", "program", "1", "4"}


def test_rows_of_two_kinds_are_not_written_into_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--parts", "networks,many", "--json", str(tmp_path / "both.json")])
    assert "one of them at a time" in capsys.readouterr().err


def test_the_rows_and_the_picture_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.many.measure_all", lambda *_: iter(ROWS))
    files = [tmp_path / "many.json", tmp_path / "many.svg"]
    assert main(["--parts", "many", "--json", str(files[0]), "--picture", str(files[1])]) == 0
    assert [row["cores"] for row in json.loads(files[0].read_text())] == [row.cores for row in ROWS]
    assert files[1].read_text().startswith("<svg")


def test_files_of_several_runs_are_told_and_drawn_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "small.json", tmp_path / "large.json"]
    for file, count in zip(files, (1, 4), strict=True):
        file.write_bytes(msgspec.json.encode([row for row in ROWS if row.cameras == count]))
    drawn = tmp_path / "many.svg"
    assert main(["--parts", "many", "--show", str(files[1]), str(files[0]), "--picture", str(drawn)]) == 0
    assert capsys.readouterr().out.splitlines() == list(table(ROWS))
    assert drawn.read_text() == picture(ROWS)
    files[0].write_text("[{}]")
    assert main(["--parts", "many", "--show", str(files[0])]) == 2
    assert "small.json: is not what --json writes of that part" in capsys.readouterr().err
