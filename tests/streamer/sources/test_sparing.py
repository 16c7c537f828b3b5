from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.sources import Source, open_source, sparing
from streamer.sources.sparing import Sparing
from streamer.sources.video import bgr, decode, open_video, video_stream
from streamer.types import Image
from tools.cameras import RtspServer

FPS = 30
FRAMES = 300
Keys = Callable[[int], bool]


def write(path: Path, keys: Keys, codec: str = "libx264", b_frames: int = 0, pyramid: str = "none") -> Source:
    """A file in which a square moves, with keyframes where they are said to be, and as a source that nobody wants."""
    rule = f"keyint=1000:min-keyint=1000:scenecut=0:bframes={b_frames}:b-adapt=0"
    if codec == "libx265":
        options = {"preset": "ultrafast", "x265-params": f"{rule}:log-level=none:pools=none:frame-threads=1"}
    else:
        options = {"preset": "ultrafast", "x264-params": f"{rule}:b-pyramid={pyramid}"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(FRAMES):
            picture = np.full((64, 64, 3), 60, np.uint8)
            picture[20:40, number % 44 : number % 44 + 20] = (200, 90, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if keys(number):
                frame.pict_type = av.video.frame.PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return open_source(SourceConfig(uri=str(path)))


def decoded(source: Source, rate_hz: float | None) -> tuple[dict[int, Image], int]:
    """The pictures that are decoded for a network of this rate, by their number, and how many were left out."""
    source.rate_hz = rate_hz
    found: dict[int, Image] = {}
    with closing(open_video(source.config.uri)) as container:
        stream = video_stream(container)
        assert stream
        assert stream.time_base
        spared, left_out = Sparing(source, stream, stream.time_base), 0
        for frame, _ in decode(container, stream, pytest.fail, threading.Event(), due=spared.due):
            assert frame.pts is not None
            found[round((frame.pts - (stream.start_time or 0)) * stream.time_base * FPS)] = bgr(frame)
            left_out += spared.count()
            assert left_out >= 0
    return found, left_out + spared.count()


def longest(found: dict[int, Image]) -> int:
    return max(after - before for before, after in pairwise([0, *sorted(found), FRAMES]))


def assert_part_of(found: dict[int, Image], source: Source) -> None:
    """The pictures are what they are when all are decoded."""
    whole, _ = decoded(source, None)
    assert len(whole) == FRAMES
    assert all(np.array_equal(picture, whole[number]) for number, picture in found.items())


@pytest.mark.parametrize(
    ("codec", "kind", "b_frames"),
    [("libx264", "mp4", 1), ("libx264", "ts", 1), ("libx264", "mp4", 3), ("libx265", "mp4", 1)],
)
def test_pictures_that_no_other_is_made_from_are_left_out_where_the_others_suffice(
    codec: str, kind: str, b_frames: int, tmp_path: Path
) -> None:
    source = write(tmp_path / f"film.{kind}", lambda number: number % 60 == 0, codec, b_frames, "normal")
    found, left_out = decoded(source, 10)
    assert len(found) + left_out == FRAMES
    assert left_out > 0.3 * FRAMES
    assert longest(found) == 2
    assert_part_of(found, source)


def test_they_are_decoded_where_the_others_are_too_few(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", lambda number: number % 60 == 0, b_frames=1)
    assert [len(decoded(source, rate_hz)[0]) for rate_hz in (12, None)] == [FRAMES, FRAMES]


def test_only_keyframes_are_decoded_where_they_suffice(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", lambda number: number % 10 == 0)
    found, left_out = decoded(source, 2)
    assert len(found) + left_out == FRAMES
    assert left_out > 0.55 * FRAMES
    assert_part_of(found, source)
    assert len(decoded(source, 2.5)[0]) == FRAMES


def test_when_keyframes_become_rare_all_is_decoded_and_nothing_is_lost(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", lambda number: number % 10 == 0 and number < 200)
    found, left_out = decoded(source, 2)
    assert len(found) + left_out == FRAMES
    assert left_out > 0.2 * FRAMES
    assert longest(found) == 10
    assert set(range(190, FRAMES)) <= set(found)
    assert_part_of(found, source)


def test_where_clips_are_kept_all_is_decoded(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", lambda number: number % 10 == 0, b_frames=1)
    source.on_packet = lambda _: None
    assert len(decoded(source, 2)[0]) == FRAMES


def test_a_model_of_another_rate_gets_what_it_needs_at_once(tmp_path: Path) -> None:
    source = write(tmp_path / "film.mp4", lambda number: number % 10 == 0)
    source.rate_hz = 2
    numbers = []
    with closing(open_video(source.config.uri)) as container:
        stream = video_stream(container)
        assert stream
        assert stream.time_base
        spared = Sparing(source, stream, stream.time_base)
        for frame, _ in decode(container, stream, pytest.fail, threading.Event(), due=spared.due):
            assert frame.pts is not None
            numbers.append(round(frame.pts * stream.time_base * FPS))
            if numbers[-1] == 200:
                source.rate_hz = 10
    assert set(range(200)) - set(numbers)
    assert numbers[numbers.index(200) :] == list(range(200, FRAMES))


@pytest.mark.parametrize(("pace", "spares"), [("realtime", True), ("fast", False)])
def test_a_file_leaves_them_out_in_real_time_and_is_whole_where_it_is_read_fast(
    pace: Literal["realtime", "fast"], spares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparing, "_LOOK_US", 300_000)
    monkeypatch.setattr(sparing, "_COMPLETE_US", 100_000)
    uri = write(tmp_path / "film.mp4", lambda number: number % 60 == 0, b_frames=1).config.uri
    source = open_source(SourceConfig(uri=uri, pace=pace))
    source.rate_hz = 10
    with closing(source.frames(0, threading.Event())) as frames:
        left_out = [frame.left_out for frame, _ in zip(frames, range(24), strict=False)]
    assert (max(left_out) == 1) is spares


def test_of_a_camera_only_keyframes_are_decoded_where_they_suffice(
    rtsp_server: Callable[..., RtspServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparing, "_LOOK_US", 900_000)
    monkeypatch.setattr(sparing, "_COMPLETE_US", 400_000)
    source = open_source(SourceConfig(uri=rtsp_server().url()))
    source.rate_hz = 1
    with closing(source.frames(0, threading.Event())) as frames:
        for _, frame in zip(range(300), frames, strict=False):
            if frame.left_out == 9:
                break
    assert frame.left_out == 9
    assert frame.key
