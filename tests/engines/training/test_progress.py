"""What a run tells: metrics.csv, TensorBoard's files, and lines or a bar."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from engines.errors import EngineError
from engines.training.progress import Report, writing


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(out: Path) -> list[Event]:
    """All of TensorBoard's records in a folder, file after file."""
    found = []
    for path in sorted((out / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])  # then the length's checksum, the event, and its checksum
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(out: Path) -> list[tuple[str, int, float]]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in events(out)
        if event.HasField("summary")
        for value in event.summary.value
    ]


def write_steps(out: Path, first: int, last: int, steps: int = 100) -> None:
    """What a run tells from a step on to another."""
    with Report(out, first - 1, steps) as report:
        for step in range(first, last + 1):
            report.step(step, loss=float(step), learning_rate=0.5, clips=4)


def test_a_row_is_the_mean_of_the_steps_since_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Report(tmp_path, 0, 60) as report:
        for step in range(1, 61):
            report.step(step, loss=float(step), learning_rate=0.5, clips=4)
        report.held_out(60, 0.75, "three of four")
    found = rows(tmp_path)
    assert list(found[0]) == ["step", "loss", "learning_rate", "clips_per_s", "held_out_accuracy"]
    assert [(row["step"], row["loss"]) for row in found] == [("25", "13.0"), ("50", "38.0"), ("60", "55.5"), ("60", "")]
    assert all(float(row["clips_per_s"]) > 0 and row["learning_rate"] == "0.5" for row in found[:3])
    assert found[3]["held_out_accuracy"] == "0.75"
    said = capsys.readouterr().out
    assert "step 25/60  loss 13.000" in said
    assert "step 60: held out, three of four" in said


def test_tensorboard_gets_what_the_rows_have(tmp_path: Path) -> None:
    with Report(tmp_path, 0, 25) as report:
        for step in range(1, 26):
            report.step(step, loss=2.0, learning_rate=0.5, clips=4)
        report.held_out(25, 0.75, "")
    found = scalars(tmp_path)
    assert [entry for entry in found if entry[0] != "clips_per_s"] == [
        ("loss", 25, 2.0), ("learning_rate", 25, 0.5), ("held_out_accuracy", 25, 0.75),
    ]  # fmt: skip
    assert ("clips_per_s", 25) in [entry[:2] for entry in found]
    assert all(event.wall_time > 0 for event in events(tmp_path))


def test_a_resumed_run_keeps_the_rows_until_its_first_step_and_no_torn_one(tmp_path: Path) -> None:
    write_steps(tmp_path, 1, 75)
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.write(b"2\n\0\0\xff")  # the machine went down
    write_steps(tmp_path, 51, 100)
    assert [row["step"] for row in rows(tmp_path)] == ["25", "50", "75", "100"]


def test_tensorboard_hides_what_was_broken_off(tmp_path: Path) -> None:
    write_steps(tmp_path, 51, 100)
    (start,) = (event for event in events(tmp_path) if event.HasField("session_log"))
    assert start.step == 51


def test_a_run_that_begins_anew_forgets_the_one_before(tmp_path: Path) -> None:
    write_steps(tmp_path, 1, 50)
    write_steps(tmp_path, 1, 25)
    assert [row["step"] for row in rows(tmp_path)] == ["25"]


def test_a_full_disk_is_told_with_the_folder_and_what_stays(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with pytest.raises(
        EngineError, match=r"cannot write in .*is the disk full.*No space left.*saved before stays"
    ) as told:
        Report(tmp_path, 0, 10)
    assert str(tmp_path) in str(told.value)


def test_a_disk_that_fills_up_later_is_told_too(tmp_path: Path) -> None:
    with Report(tmp_path, 0, 1) as report:
        (tmp_path / "metrics.csv").unlink()
        (tmp_path / "metrics.csv").symlink_to("/dev/full")
        with pytest.raises(EngineError, match="No space left"):
            report.step(1, 1.0, 1.0, 1)


def test_an_error_of_several_lines_is_told_by_its_first(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path):
            raise RuntimeError("what failed\nwhere it failed")

    with pytest.raises(EngineError, match=r"what failed; what was saved") as told:
        fail()
    assert "\n" not in str(told.value)


def test_a_terminal_sees_a_bar_with_the_time_that_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    write_steps(tmp_path, 26, 50)
    said = capsys.readouterr().out
    assert "loss 38.000" in said
    assert "50/100" in said
    assert "left" in said
    assert "step 50/100" not in said  # that line is for files
