"""Folders of labelled clips: what is in them, and what is wrong with it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines import find_models
from engines.spec import read_spec
from streamer.clips.folder import Note
from streamer.errors import ConfigError, SourceError
from streamer.teaching.folder import check, fault_of, gather
from streamer.teaching.frames import MOST_S, frames_of
from tests.tools.sets import write_video


def fill(root: Path, **clips: int) -> Path:
    """A folder of labels with so many clips of a second each."""
    for label, count in clips.items():
        for number in range(count):
            write_video(root / label / f"{label}-{number}.mp4", 30)
    return root


def note(clip: Path, label: str, at_s: float, until_s: float | None) -> None:
    """What stands beside a clip of 10 s."""
    told = Note(
        name=clip.stem, stream="cam", label=label, why="event", model="m@1", start_us=50_000_000, end_us=60_000_000,
        at_us=round((50 + at_s) * 1e6), until_us=None if until_s is None else round((50 + until_s) * 1e6),
        peak=0.9, lead=None, scores=[(label, 0.9)], answer=clip.parent.name,
    )  # fmt: skip
    clip.with_suffix(".json").write_bytes(msgspec.json.encode(told))


def test_each_folder_is_a_label_and_other_files_are_none(tmp_path: Path) -> None:
    fill(tmp_path, wave=2, **{"grüne Welle": 1})
    (tmp_path / "wave" / "notes.txt").touch()
    (tmp_path / "wave" / ".hidden.mp4").touch()
    (tmp_path / ".wave-1.part").touch()
    assert [(one.label, one.path.name) for one in gather([tmp_path])] == [
        ("grüne Welle", "grüne Welle-0.mp4"), ("wave", "wave-0.mp4"), ("wave", "wave-1.mp4"),
    ]  # fmt: skip


def test_two_spellings_of_an_umlaut_are_one_label(tmp_path: Path) -> None:
    for folder, form in (("one", "NFC"), ("two", "NFD")):
        fill(tmp_path / folder, **{unicodedata.normalize(form, "Grüßen"): 1})  # type: ignore[arg-type]
    assert {one.label for one in gather([tmp_path / "one", tmp_path / "two"])} == {"Grüßen"}


def test_an_answer_is_learned_from_where_its_event_was(tmp_path: Path) -> None:
    fill(tmp_path, wave=1)
    for label, until in (("nothing", 6.5), ("wave", None), ("clap", 6.0)):
        clip = write_video(tmp_path / "answers" / label / f"cam-{label}.mp4", 30)
        note(clip, "wave", 5.0, until)
    (tmp_path / "answers" / "clap" / "cam-clap.json").write_text("{")
    write_video(tmp_path / "cam-of-an-event.mp4", 30)
    found = {one.label: one for one in gather([tmp_path]) if one.corrected}
    assert (found["nothing"].begin, found["nothing"].end) == pytest.approx((0.45, 0.65))
    assert found["wave"].end == pytest.approx(0.5)
    assert (found["clap"].begin, found["clap"].end) == (0.0, 1.0)
    assert sum(not one.corrected for one in gather([tmp_path])) == 1


def test_what_no_model_can_learn_from_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: cannot be read .* streamer record LABEL"):
        gather([tmp_path / "nowhere"])
    write_video(tmp_path / "loose" / "clip.mp4", 30)
    with pytest.raises(ConfigError, match="loose: its clips lie in no label's folder; move them into"):
        gather([tmp_path / "loose"])
    (tmp_path / "bare" / "wave").mkdir(parents=True)
    with pytest.raises(ConfigError, match="wave: has no clips; add some, or remove the folder"):
        gather([tmp_path / "bare"])
    with pytest.raises(ConfigError, match="not one clip"):
        check([], len)
    with pytest.raises(
        ConfigError, match=r"all clips are of one label, wave; a model needs two: .* streamer record nothing"
    ):
        check(gather([fill(tmp_path / "alone", wave=2)]), len)
    with pytest.raises(
        ConfigError, match=r"clap has 1 clip that can be used, and needs two at least.* streamer record clap"
    ):
        check(gather([fill(tmp_path / "single", wave=2, clap=1)]), len)


def test_few_clips_are_told_with_the_remedy(tmp_path: Path) -> None:
    said: list[str] = []
    good = check(gather([fill(tmp_path, wave=2, clap=5)]), said.append)
    assert len(good) == 7
    assert said == [
        "few clips (wave 2): they tell the place rather than the action; record ten of each, in several places"
    ]


def test_clips_that_cannot_be_used_are_left_out_and_told(tmp_path: Path) -> None:
    fill(tmp_path, wave=6, clap=6)
    (tmp_path / "wave" / "empty.mp4").touch()
    (tmp_path / "wave" / "noise.mp4").write_bytes(bytes(range(256)) * 9)
    write_video(tmp_path / "clap" / "short.mp4", 5)
    write_video(tmp_path / "clap" / "other.webm", 30)
    said: list[str] = []
    good = check(gather([tmp_path]), said.append)
    assert {one.path.name for one in good if one.label == "clap"} >= {"other.webm", "clap-0.mp4"}
    assert len(good) == 13
    assert len(said) == 3
    assert "short.mp4: shows 0.1 s, too short for an action; record 2 to 5 s" in said[0]
    assert "empty.mp4: this file is empty" in said[1]
    assert "noise.mp4: this is not a video" in said[2]


def test_a_single_answer_of_a_new_label_does_not_stop_the_teaching(tmp_path: Path) -> None:
    fill(tmp_path, wave=5, clap=5)
    write_video(tmp_path / "answers" / "jump" / "cam.mp4", 30)
    said: list[str] = []
    assert {one.label for one in check(gather([tmp_path]), said.append)} == {"wave", "clap"}
    assert said[0].startswith("left out: jump has no clip but one answer")


def test_frames_come_as_the_network_sees_them_live(tmp_path: Path) -> None:
    spec = read_spec(find_models()["default"])
    frames = frames_of(write_video(tmp_path / "a clip.mp4", 31), spec)
    assert frames.shape == (11, spec.height, spec.width, 3)
    brightness = frames.mean((1, 2, 3))
    assert abs(np.diff(brightness) - 18).max() < 4  # three frames of 6 grey levels each


def test_a_long_clip_is_read_to_its_first_half_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.teaching.frames.MOST_S", 0.5)
    assert MOST_S == 30
    spec = read_spec(find_models()["default"])
    assert len(frames_of(write_video(tmp_path / "long.mp4", 40), spec)) == 5


def test_a_clip_without_frames_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(SourceError, match="this file is empty"):
        frames_of(path, read_spec(find_models()["default"]))
    assert "this file is empty" in fault_of(path)
