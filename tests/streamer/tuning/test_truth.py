"""What somebody wrote down, and what cannot be."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.tuning.matching import Segment
from streamer.tuning.truth import Recording, read_truth

LABELS = ("nothing", "wave", "nod")


def table(folder: Path, text: str) -> Path:
    """A CSV file beside two recordings."""
    for name in ("a.mp4", "b c.mp4"):
        (folder / name).write_bytes(b"video")
    path = folder / "truth.csv"
    path.write_text(text)
    return path


def test_segments_are_read_by_file_in_the_order_of_time(tmp_path: Path) -> None:
    path = table(
        tmp_path, "\ufefffile, label, start_s, end_s\na.mp4,nod,4,5.5\nb c.mp4,,,\na.mp4, wave ,1,2\na.mp4,wave,2,3\n"
    )
    first, second = read_truth(path, LABELS)
    assert first == Recording(
        tmp_path / "a.mp4",
        (Segment("wave", 1, 2), Segment("wave", 2, 3), Segment("nod", 4, 5.5)),
        where=f"{path}, line 2",
    )
    assert (second.path.name, second.segments, second.judged) == ("b c.mp4", (), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the first line must be file,label,start_s,end_s, but is nothing"),
        (
            "label,start_s,end_s\nwave,1,2\n",
            r"the first line must be file,label,start_s,end_s, but is label,start_s,end_s",
        ),
        ("file,label,start_s,end_s\n", r"has nothing in it; it must hold lines of file,label,start_s,end_s"),
        ("file,label,start_s,end_s\na.mp4,wave,1\n", r"line 2: must have 4 values, file,label,start_s,end_s"),
        ("file,label,start_s,end_s\na.mp4,wave,1,2,3\n", r"line 2: must have 4 values"),
        ("file,label,start_s,end_s\n,wave,1,2\n", r"line 2: must have 4 values"),
        (
            "file,label,start_s,end_s\nx.mp4,wave,1,2\n",
            r"line 2: there is no file .*x\.mp4; files are looked for beside",
        ),
        (f"file,label,start_s,end_s\n{'x' * 5000},wave,1,2\n", r"line 2: there is no file .{300}; files are"),
        ("file,label,start_s,end_s\n\x1b[2J.mp4,wave,1,2\n", r"line 2: there is no file .*\\u001b\[2J\.mp4; files are"),
        ("file,label,start_s,end_s\na.mp4,wafe,1,2\n", r"line 2: the model has no label 'wafe'; did you mean 'wave'\?"),
        ("file,label,start_s,end_s\na.mp4,,1,2\n", r"line 2: the model has no label ''; it has nothing, wave, nod"),
        ("file,label,start_s,end_s\na.mp4,wave,one,2\n", r"line 2: start_s and end_s must be seconds .*'one' and '2'"),
        ("file,label,start_s,end_s\na.mp4,wave,2,1\n", r"line 2: start_s and end_s must be seconds"),
        ("file,label,start_s,end_s\na.mp4,wave,-1,1\n", r"line 2: start_s and end_s must be seconds"),
        ("file,label,start_s,end_s\na.mp4,wave,0,nan\n", r"line 2: start_s and end_s must be seconds"),
        ("file,label,start_s,end_s\na.mp4,wave,0,inf\n", r"line 2: start_s and end_s must be seconds"),
        (
            "file,label,start_s,end_s\na.mp4,wave,3,5\na.mp4,nod,1,3.1\n",
            r"line 2: 'wave' begins at 3 s, before 'nod' has ended at 3\.1 s; one thing happens at a time",
        ),
        ("file,label,start_s,end_s\na.mp4,\x00,1,2\n", r"truth\.csv"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_truth(table(tmp_path, text), LABELS)


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.csv: cannot be read: No such file"):
        read_truth(tmp_path / "missing.csv", LABELS)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_truth(tmp_path / ("x" * 5000), LABELS)
    binary = tmp_path / "video.mp4"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match=r"video\.mp4: is not a CSV file"):
        read_truth(binary, LABELS)


def clip(folder: Path, label: str, name: str, note: object = None) -> Path:
    path = folder / label / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    if note is not None:
        path.with_suffix(".json").write_text(json.dumps(note))
    return path


@pytest.mark.parametrize("under", ["", "answers"])
def test_the_clips_of_a_folder_show_its_label(tmp_path: Path, under: str) -> None:
    root = tmp_path / under if under else tmp_path
    plain = clip(root, "wave", "a")
    noted = clip(root, "wave", "b", {"start_us": 10_000_000, "at_us": 15_000_000, "until_us": 17_000_000, "name": "b"})
    moment = clip(root, "nod", "c", {"start_us": 10_000_000, "at_us": 10_500_000, "until_us": None})
    other = clip(root, "juggling", "d")
    damaged = clip(root, "nothing", "e", ["no note"])
    found = {recording.path: recording for recording in read_truth(tmp_path, LABELS)}
    assert (found[plain].segments, found[plain].judged) == ((Segment("wave", 0, math.inf),), None)
    assert (found[noted].segments, found[noted].judged) == ((Segment("wave", 4, 8),), (4, 8))
    assert (found[moment].segments, found[moment].judged) == ((Segment("nod", 0, 1.5),), (0, 1.5))
    assert found[other].segments == ()
    assert found[damaged].segments == (Segment("nothing", 0, math.inf),)


def test_folders_without_a_label_of_the_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has nothing in it; it must hold a folder of clips for each label"):
        read_truth(tmp_path, LABELS)
    clip(tmp_path, "wafe", "a")
    with pytest.raises(ConfigError, match=r"called as a label of the model; it has nothing, wave, nod, .* wafe"):
        read_truth(tmp_path, LABELS)
