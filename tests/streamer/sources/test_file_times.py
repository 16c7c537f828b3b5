"""Timestamps of files: missing, backward, leaping, guessed."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from streamer.config import Capture, SourceConfig
from streamer.sources import open_source

from .test_file import read, source_of

WriteVideo = Callable[..., Path]


def test_missing_and_backward_timestamps_go_on_evenly() -> None:
    from streamer.sources.file import _Timeline

    timeline = _Timeline(40_000)
    places = [timeline.place_us(pts) for pts in [5_000, 45_000, None, 125_000, 10, 40_010, 40_010, 1_000_000]]
    assert places == [0, 40_000, 80_000, 120_000, 160_000, 200_000, 240_000, 1_199_990]


def join(*paths: Path) -> Path:
    """Recordings one after the other, as `cat` does it."""
    joined = paths[0].with_name("joined.ts")
    joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    return joined


@pytest.mark.parametrize("later_s", [-3600, -10, 10, 3600, 80_000])
@pytest.mark.parametrize("capture", ["thread", "process"])
def test_a_leap_in_real_time_is_told_and_playing_goes_on_at_once(
    write_video: WriteVideo, later_s: int, capture: Capture
) -> None:
    starts = (0, later_s * 30) if later_s > 0 else (-later_s * 30, 0)
    joined = join(*(write_video(f"{n}.ts", pts=[start + at for at in range(10)]) for n, start in enumerate(starts)))
    config = SourceConfig(uri=str(joined), capture=capture)
    frames = list(open_source(config).frames(0, threading.Event()))  # an hour would exceed the time limit of the test
    assert len(frames) >= 18
    assert {frame.timeline.piece for frame in frames} == {0, 1}
    distances = [after.time_us - before.time_us for before, after in pairwise(frames)]
    assert 0 < min(distances) <= max(distances) < 1_000_000
    assert [frame.timeline.piece for frame in frames] == sorted(frame.timeline.piece for frame in frames)


def test_two_frames_an_hour_apart_play_within_a_second_and_rare_frames_come_when_they_come() -> None:
    from streamer.sources.file import _Timeline

    hour = _Timeline(1_800_000_000, patient=False)  # FFmpeg's mean rate of such a file
    assert [hour.place_us(pts) for pts in (0, 3_600_000_000)] == [0, 1_000_000]
    assert hour.piece == 1
    rare = _Timeline(8_000_000, patient=False)
    assert [rare.place_us(pts) for pts in (0, 8_000_000, 16_000_000)] == [0, 8_000_000, 16_000_000]
    assert rare.piece == 0


def test_a_leap_in_a_file_that_is_read_fast_keeps_its_length_ahead_and_is_told_back(write_video: WriteVideo) -> None:
    early, late = (
        write_video(f"{n}.ts", pts=[start + at for at in range(10)]) for n, start in enumerate((0, 30 * 3600))
    )
    ahead, back = (read(source_of(join(*pair))) for pair in ((early, late), (late, early)))
    times = [frame.time_us for frame, _ in ahead]
    assert max(after - before for before, after in pairwise(times)) == pytest.approx(3600e6, rel=0.01)
    assert {frame.timeline.piece for frame, _ in ahead} == {0}
    assert {frame.timeline.piece for frame, _ in back} == {0, 1}
    assert all(before.time_us < after.time_us for (before, _), (after, _) in pairwise(back))


@pytest.mark.parametrize(("name", "codec"), [("raw.h264", "libx264"), ("raw.hevc", "libx265")])
def test_a_raw_file_is_timed_by_the_rate_of_its_headers_which_is_told(
    write_video: WriteVideo, name: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    times = [frame.time_us for frame, _ in read(source_of(write_video(name, count=30, codec=codec)))]
    assert times == pytest.approx([number * 1e6 / 30 for number in range(30)], abs=40)
    assert f"{name}: has no timestamps; its times are counted at 30 frames a second, as its headers say" in caplog.text


def test_a_raw_file_without_a_rate_is_timed_by_a_guess_or_as_it_is_told(
    write_video: WriteVideo, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video("raw.mjpeg", count=30, codec="mjpeg", pixels="yuvj420p")
    assert read(source_of(path))[25][0].time_us == pytest.approx(1_000_000, abs=40)
    assert "25 frames a second, a guess; set `fps` of this source if it is another" in caplog.text
    source = open_source(SourceConfig(uri=str(path), pace="fast", fps=15))
    assert read(source)[15][0].time_us == pytest.approx(1_000_000, abs=40)
    assert "15 frames a second, as `fps` of this source says" in caplog.text


def test_timestamps_that_leap_by_years_and_impossible_rates_go_on_evenly() -> None:
    from streamer.sources.file import _Timeline

    timeline = _Timeline(40_000)
    assert [timeline.place_us(pts) for pts in [0, 10**18, 10**18 + 40_000, -(10**18)]] == [0, 40_000, 80_000, 120_000]
    for period_us in (0, 10**15):
        timeline = _Timeline(period_us)
        assert [timeline.place_us(None) for _ in range(3)] == [0, 33_333, 66_666]


def test_a_header_with_an_impossible_frame_rate_does_not_stop_a_realtime_file(write_video: WriteVideo) -> None:
    path = write_video("clip.avi", count=3, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, data.index(b"strh") + 28, 2**32 - 1, 1)  # 136 years a frame
    path.write_bytes(data)
    assert [frame.time_us for frame, _ in read(source_of(path))] == [0, 33_333, 66_666]
    assert len(read(source_of(path, "realtime"))) == 3
