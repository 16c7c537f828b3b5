from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from streamer.clips.folder import Folder, Note, new_name
from streamer.errors import ConfigError

from .films import SECOND, film, numbers

FILM = film(10, 1000)


def note(name: str = "door-1", why: Literal["event", "unsure"] = "event", **other: Any) -> Note:
    fields = {
        "stream": "door", "label": "wave", "model": "m@1", "start_us": 0, "end_us": 0, "at_us": 1000 * SECOND,
        "until_us": 1001 * SECOND, "peak": 0.9, "lead": None, "scores": [("wave", 0.9), ("still", 0.1)],
    }  # fmt: skip
    return Note(name=name, why=why, **{**fields, **other})


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_clip_and_its_note_are_listed_and_tell_when_the_pictures_were_captured(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "clips")
    assert folder.save(note(), FILM)
    (report,) = folder.reports()
    assert (report.name, report.label, report.answer, report.why, report.peak) == ("door-1", "wave", "", "event", 0.9)
    assert (report.start_us, report.end_us) == (1000 * SECOND, 1000 * SECOND + 9 * SECOND // 10)
    assert report.bytes == (tmp_path / "clips/door-1.mp4").stat().st_size
    (kept,) = Folder(tmp_path / "clips").notes()  # as another run reads it
    assert kept.model == "m@1"
    assert kept.scores == [("wave", 0.9), ("still", 0.1)]
    assert numbers(tmp_path / "clips/door-1.mp4") == list(range(10))


def test_a_folder_that_is_made_for_clips_is_for_its_user_only(tmp_path: Path) -> None:
    Folder(tmp_path / "a" / "clips")
    assert (tmp_path / "a" / "clips").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    Folder(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_a_name_tells_stream_time_and_label_and_can_be_no_path() -> None:
    name = new_name("door", 1_700_000_000 * SECOND, "../Waving: \u2603")
    assert re.fullmatch(r"door-20231114-221320-waving-[0-9a-f]{4}", name)
    assert new_name("door", 0, "\u2603").startswith("door-19700101-000000-label-")
    assert new_name("a" * 64, 0, "b" * 500).count("b") <= 44
    assert new_name("door", 0, "wave") != new_name("door", 0, "wave")


def test_an_answer_puts_the_clip_into_the_folder_of_its_label_and_the_last_one_wins(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save(note(), FILM)
    assert folder.answer("door-1", "No. 1 wave") == {"clip": "door-1", "label": "No. 1 wave", "before": ""}
    kept = {"answers/No. 1 wave/door-1.mp4", "answers/No. 1 wave/door-1.json", "door-1.mp4", "door-1.json"}
    assert files(tmp_path) == kept
    assert folder.reports()[0].answer == "No. 1 wave"
    assert (tmp_path / "door-1.mp4").samefile(tmp_path / "answers/No. 1 wave/door-1.mp4")
    other = Folder(tmp_path)  # of another run, or another person
    assert other.answer("door-1", "nothing")["before"] == "No. 1 wave"
    assert files(tmp_path) == {"answers/nothing/door-1.mp4", "answers/nothing/door-1.json", "door-1.mp4", "door-1.json"}
    assert folder.answer("door-1", "nothing")["before"] == "nothing"
    assert folder.answer("door-1", "") == {"clip": "door-1", "label": "", "before": "nothing"}
    assert files(tmp_path) == {"door-1.mp4", "door-1.json"}
    assert not (tmp_path / "answers/nothing").exists()


def test_an_answer_is_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder = Folder(tmp_path)
    folder.save(note(), FILM)
    folder.answer("door-1", "wave")
    assert (tmp_path / "answers/wave/door-1.mp4").read_bytes() == (tmp_path / "door-1.mp4").read_bytes()


@pytest.mark.parametrize("name", ["door-2", "../door-1", "door-1.json", "", "answers/wave/door-1", "door-1\0"])
def test_an_answer_to_a_clip_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    folder = Folder(tmp_path / "clips")
    folder.save(note(), FILM)
    (tmp_path / "door-1.json").write_text("{}")
    with pytest.raises(ConfigError, match="there is no clip"):
        folder.answer(name, "wave")


def test_an_answer_to_a_clip_that_was_deleted_is_an_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save(note(), FILM)
    folder.reports()
    (tmp_path / "door-1.mp4").unlink()
    with pytest.raises(ConfigError, match=r"there is no clip .door-1.: it may have been deleted"):
        folder.answer("door-1", "wave")
    assert folder.reports() == []


@pytest.mark.parametrize("label", ["../x", "a/b", ".hidden", " wave", "wave\n", "x" * 101, "..", "a\\b", "\u202ewave"])
def test_an_answer_that_can_be_no_folder_is_an_error(tmp_path: Path, label: str) -> None:
    folder = Folder(tmp_path)
    folder.save(note(), FILM)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="cannot be an answer, since it names a folder"):
        folder.answer("door-1", label)
    assert files(tmp_path) == before


def test_the_oldest_clips_go_first_and_answers_stay(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(5):
        folder.save(note(f"door-{number}"), FILM)
        for suffix in (".mp4", ".json"):
            os.utime(tmp_path / f"door-{number}{suffix}", (1000 + number, 1000 + number))
    folder.answer("door-0", "wave")
    size = (tmp_path / "door-0.mp4").stat().st_size
    folder.tidy()
    assert folder.bytes == 5 * size
    small = Folder(tmp_path, keep_gb=3.5 * size / 1e9)
    assert small.tidy() == 2
    assert {report.name for report in small.reports()} == {"door-2", "door-3", "door-4"}
    assert small.bytes == 3 * size
    assert {name for name in files(tmp_path) if "door-0" in name} == {
        "answers/wave/door-0.mp4",
        "answers/wave/door-0.json",
    }
    os.utime(tmp_path / "door-4.mp4")
    assert Folder(tmp_path, keep_days=1).tidy() == 2
    assert {report.name for report in small.reports()} == {"door-4"}


def test_what_a_killed_run_left_half_is_deleted_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for name, age_s in ((".door-1.mp4.12345678.part", 7200), (".door-2.mp4.12345678.part", 10)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    (tmp_path / "holiday.MOV").write_bytes(b"x")
    folder.tidy()
    assert files(tmp_path) == {".door-2.mp4.12345678.part", "holiday.MOV"}


def test_notes_that_are_damaged_or_not_ours_are_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save(note(), FILM)
    (tmp_path / "half.json").write_text('{"name": "half"')
    (tmp_path / "other.json").write_text((tmp_path / "door-1.json").read_text())
    (tmp_path / "package.json").write_text('{"name": "package"}')
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "nothing")
    assert [report.name for report in folder.reports()] == ["door-1"]


def test_of_unsure_moments_the_least_sure_one_of_each_part_of_the_day_stays(tmp_path: Path) -> None:
    def save(name: str, lead: float, at_s: int = 1000, stream: str = "door") -> bool:
        moment = note(name, "unsure", lead=lead, at_us=at_s * SECOND, stream=stream)
        return Folder(tmp_path).save(moment, FILM, 3600 * SECOND)

    def names() -> set[str]:
        return {report.name for report in Folder(tmp_path).reports()}

    Folder(tmp_path).save(note("event"), FILM)
    assert save("first", 0.4)
    assert not save("surer", 0.45)
    assert names() == {"event", "first"}
    assert save("less-sure", 0.2)
    assert save("later", 0.4, at_s=5000)
    assert save("elsewhere", 0.4, stream="yard")
    assert names() == {"event", "less-sure", "later", "elsewhere"}
    Folder(tmp_path).answer("less-sure", "wave")
    assert not save("least-sure", 0.1)  # somebody has already said what that part of the day taught
    assert "less-sure" in names()


def test_a_folder_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"clips.folder .*file/clips: cannot be written"):
        Folder(tmp_path / "file" / "clips")
    with pytest.raises(ConfigError, match=r"Read-only|Permission|No such"):
        Folder(Path("/proc/clips"))


def test_a_clip_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path / "clips")
    shutil.rmtree(tmp_path / "clips")
    with pytest.raises(OSError, match="No such file"):
        folder.save(note(), FILM)
    assert not (tmp_path / "clips").exists()  # the disk may have been unplugged: another one is not filled
