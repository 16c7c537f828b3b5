"""Recording clips: what is in them, what they are called, and what is told."""

from __future__ import annotations

import itertools
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.commands import app, console
from streamer.errors import ConfigError, StreamerError
from streamer.sources.video import bgr
from streamer.teaching.recorder import check_label, keep
from tools.cameras.barcode import read_barcode

SECRET = "s3cr3t"
AT_ONCE = ("--countdown", "0", "--pause", "0")
TEACH = "streamer teach"
# Python's own handling of Ctrl-C, even where these tests run in the background of a shell, which ignores it
STREAMER = (
    "import signal; signal.signal(2, signal.default_int_handler); "
    "from streamer.commands import main; raise SystemExit(main())"
)


def record_to(out: Path, source: object, *options: object, label: str = "wave") -> int:
    """Run the command in this process; its exit code."""
    arguments = ["record", "--source", str(source), "--out", str(out), *map(str, options), "--", label]
    try:
        return int(app(args=arguments, standalone_mode=False) or 0)
    except StreamerError as error:
        sys.stderr.write(f"record: {error}\n")
        return error.exit_code
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        return console.usage(error, arguments)


def command(out: Path, source: object, *options: object) -> list[str]:
    given = ["record", "wave", "--source", str(source), "--out", str(out), *map(str, options)]
    return [sys.executable, "-c", STREAMER, *given]


def contents(clip: Path) -> tuple[list[int], list[int]]:
    """The times of a clip's frames, microseconds, and the numbers in their pictures."""
    times, numbers = [], []
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(int(frame.pts * frame.time_base * 1_000_000))
            numbers.append(read_barcode(bgr(frame)))
    return times, numbers


def clips_in(out: Path) -> list[str]:
    """The names of all files and folders, hidden ones too."""
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


# --------------------------------------------------------------------------------------------- what is in a clip


def test_a_live_source_is_recorded_as_time_goes_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--clips", 2, "--seconds", 0.4, "--countdown", 0.2, "--pause", 0.1)
    assert record_to(tmp_path, "pattern://swipe?size=161x121", *options) == 0
    assert clips_in(tmp_path) == ["wave", "wave/wave-0001.mp4", "wave/wave-0002.mp4"]
    for name in ("wave-0001.mp4", "wave-0002.mp4"):
        times, _ = contents(tmp_path / "wave" / name)
        assert times == [pytest.approx(index * 1e6 / 30, abs=2) for index in range(12)]
    with av.open(str(tmp_path / "wave" / "wave-0001.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (160, 120)
    out, err = capsys.readouterr()
    assert "wave, clip 2 of 2: pause" in out
    assert "wave, clip 2 of 2: get ready, 1" in out
    assert "wave, clip 2 of 2: recording, 1 s left" in out
    assert "wave-0002.mp4: 12 frames, 0.4 s" in out
    assert "recorded 2 of 2 clips of wave" in out
    assert err == ""


@pytest.mark.parametrize("by_s", [-3600, 3600])
def test_a_clock_that_is_set_meanwhile_does_not_cut_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_s: int
) -> None:
    real_ns, looks = time.time_ns, itertools.count()
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + (by_s * 10**9 if next(looks) > 8 else 0))
    options = ("--clips", 1, "--seconds", 0.5, "--countdown", 0, "--pause", 0)
    assert record_to(tmp_path, "pattern://swipe?size=160x120", *options) == 0
    times, _ = contents(tmp_path / "wave/wave-0001.mp4")
    assert times == [pytest.approx(index * 1e6 / 30, abs=2) for index in range(15)]


def test_frames_keep_the_times_at_which_they_were_captured(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    places = [0, 1, 2, 5, 6, 13, 14, 15, 20, 27, 28, 35, 40]  # thirtieths of a second
    assert record_to(tmp_path / "out", write_video(pts=places), "--clips", 1, "--seconds", 1, *AT_ONCE) == 0
    times, numbers = contents(tmp_path / "out/wave/wave-0001.mp4")
    assert times == [place * 1_000_000 // 30 for place in places if place < 30]
    assert numbers == list(range(11))


def test_a_file_is_cut_without_a_gap_when_nothing_is_waited_for(
    tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    assert record_to(tmp_path / "out", write_video(count=60), "--clips", 4, "--seconds", 0.5, *AT_ONCE) == 0
    clips = [contents(tmp_path / f"out/wave/wave-{number:04}.mp4") for number in range(1, 5)]
    assert [number for _, numbers in clips for number in numbers] == list(range(60))
    assert [times[0] for times, _ in clips] == [0, 0, 0, 0]


def test_a_countdown_comes_before_and_a_pause_after_each_clip(
    tmp_path: Path, write_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    waits = ("--clips", 2, "--seconds", 0.5, "--countdown", 1.5, "--pause", 0.5)
    assert record_to(tmp_path / "out", write_video(count=150), *waits) == 0
    for name, first in (("wave-0001.mp4", 45), ("wave-0002.mp4", 45 + 15 + 60)):
        assert contents(tmp_path / "out/wave" / name)[1] == list(range(first, first + 15))
    told = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("wave, clip")]
    assert told == [
        *("get ready, 2", "get ready, 1", "recording, 1 s left"),
        *("pause", "get ready, 2", "get ready, 1", "recording, 1 s left"),
    ]


def test_on_a_terminal_the_countdown_changes_in_place(tmp_path: Path) -> None:
    terminal, side = pty.openpty()
    options = ("--clips", 1, "--seconds", 0.5, "--countdown", 2, "--pause", 0)
    variables = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    arguments = command(tmp_path, "pattern://swipe?duration=5&size=160x128", *options)
    process = subprocess.Popen(arguments, stdin=side, stdout=side, stderr=side, env=variables)
    os.close(side)
    shown = b""
    with suppress(OSError):  # what reading gives when the other side is closed
        while chunk := os.read(terminal, 4096):
            shown += chunk
    os.close(terminal)
    assert process.wait(30) == 0
    lines = [line for line in shown.decode().split("\n") if "get ready" in line]
    assert len(lines) == 1
    assert lines[0].index("get ready, 2") < lines[0].index("get ready, 1") < lines[0].index("recording, 1 s left")


def test_a_clip_whose_source_gave_too_little_is_dropped_and_said(
    tmp_path: Path, write_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    hole = [*range(30), *range(30, 36), *range(54, 60)]  # the second second misses 0.6 s; the third is not there
    file = write_video(pts=[*hole, *range(60, 80)])
    assert record_to(tmp_path / "out", file, "--seconds", 1, *AT_ONCE) == 0
    assert clips_in(tmp_path / "out") == ["wave", "wave/wave-0001.mp4"]
    out = capsys.readouterr().out
    assert "clip 2 of 10 dropped: the source gave 0.4 s of 1 s" in out
    assert "clip 3 of 10 dropped: the source gave 0.6 s of 1 s" in out
    assert "clip.mp4: has ended" in out
    assert "recorded 1 of 10 clips of wave" in out


def test_a_last_clip_that_is_nearly_whole_is_kept(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    assert record_to(tmp_path / "out", write_video(count=26), "--clips", 1, "--seconds", 1, *AT_ONCE) == 0
    assert contents(tmp_path / "out/wave/wave-0001.mp4")[1] == list(range(26))


def test_a_source_too_short_for_one_clip_is_an_error(
    tmp_path: Path, write_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_to(tmp_path / "out", write_video(count=20), *AT_ONCE) == 2
    assert clips_in(tmp_path / "out") == []
    assert "clip.mp4: not one clip of 3 s was whole; try --seconds with less" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- names and what is next


def test_numbering_goes_on_after_what_is_there(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    folder = tmp_path / "out/wave"
    folder.mkdir(parents=True)
    others = ["wave-0002.mp4", "wave-0007.mp4", "wave-0030.mp4.part", "wave-x.mp4", "waves-0040.mp4", "mine.mov"]
    for name in others:
        (folder / name).write_text("mine")
    assert record_to(tmp_path / "out", write_video(count=30), "--clips", 2, "--seconds", 0.5, *AT_ONCE) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted([*others, "wave-0008.mp4", "wave-0009.mp4"])
    assert [(folder / name).read_text() for name in others] == ["mine"] * len(others)


@pytest.mark.parametrize("links", [True, False])
def test_recordings_of_one_label_at_the_same_time_take_numbers_of_their_own(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)

    def keep_some(worker: int, count: int) -> None:
        for number in range(count):
            part = tmp_path / f".wave-{worker}.part"
            part.write_text(f"{worker} {number}")
            keep(part, tmp_path / "wave", "wave")

    threads = [threading.Thread(target=keep_some, args=(worker, 25)) for worker in range(4 if links else 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    names = [f"wave-{number:04}.mp4" for number in range(1, 25 * len(threads) + 1)]
    assert sorted(path.name for path in (tmp_path / "wave").iterdir()) == names
    written = {(tmp_path / "wave" / name).read_text() for name in names}
    assert written == {f"{worker} {number}" for worker in range(len(threads)) for number in range(25)}
    assert clips_in(tmp_path) == ["wave", *(f"wave/{name}" for name in names)]


def test_the_end_tells_the_clips_of_each_label_and_the_next_command(
    tmp_path: Path, write_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "my clips", write_video(count=45)
    assert record_to(out, file, "--clips", 1, "--seconds", 0.5, *AT_ONCE) == 0
    alone = capsys.readouterr().out
    assert "1 clip of wave" in alone
    assert "record another label" in alone
    assert TEACH not in alone
    (out / "wave" / "notes.txt").touch()
    assert record_to(out, file, "--clips", 3, "--seconds", 0.5, *AT_ONCE, label="thumbs up") == 0
    both = capsys.readouterr().out
    assert "3 clips of thumbs up" in both
    assert "1 clip of wave" in both
    assert both.endswith(f"next: {TEACH} '{out}'\n")


@pytest.mark.parametrize(
    "label", ["", "a/b", "..", ".hidden", "a\\b", " wave", "wave ", "two\nlines", "\x1b[2J", "x" * 51]
)
def test_a_label_that_cannot_be_a_folder_is_refused(
    tmp_path: Path, label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_to(tmp_path / "out", "pattern://swipe", label=label) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"record: the label {label!r}: it names a folder, too")
    assert err.count("\n") == 1
    assert out == ""
    assert clips_in(tmp_path) == []


@settings(max_examples=50)
@given(label=st.text(max_size=60))
def test_a_label_that_is_taken_makes_one_folder_and_no_other(
    label: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        check_label(label)
    except ConfigError:
        return
    out = tmp_path_factory.mktemp("out")
    (out / "part").touch()
    assert keep(out / "part", out / label, label).relative_to(out) == Path(label) / f"{label}-0001.mp4"
    assert len(clips_in(out)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clips", "0"), "Invalid value for '--clips'"),
        (("--clips", "2.5"), "Invalid value for '--clips'"),
        (("--seconds", "0"), "Invalid value for '--seconds'"),
        (("--countdown", "nan"), "Invalid value for '--countdown'"),
        (("--pause", "inf"), "Invalid value for '--pause'"),
        ((f"rtsp://user:{SECRET}@127.0.0.1/cam",), "unexpected extra argument"),
    ],
)
def test_wrong_options_are_told_without_passwords(
    tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_to(tmp_path / "out", "pattern://swipe", *options) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert message in err
    assert SECRET not in err
    assert not (tmp_path / "out").exists()
