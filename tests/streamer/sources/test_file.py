from __future__ import annotations

import math
import os
import random
import resource
import struct
import tempfile
import threading
import time
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from streamer.types import Frame
from tools.cameras.barcode import barcode, read_barcode
from tools.fuzz.seeds import open_exr

WriteVideo = Callable[..., Path]


def source_of(path: Path | str, pace: Literal["realtime", "fast"] = "fast") -> Source:
    return open_source(SourceConfig(uri=str(path), pace=pace))


def read(source: Source, stop: threading.Event | None = None) -> list[tuple[Frame, int]]:
    """Every frame with the number in its picture."""
    return [(frame, read_barcode(frame.bgr())) for frame in source.frames(0, stop or threading.Event())]


def test_fast_gives_every_frame_in_order_and_twice_the_same(write_video: WriteVideo) -> None:
    source = source_of(write_video(count=20))
    first = [(frame.time_us, frame.index, frame.connection, number) for frame, number in read(source)]
    assert first == [(number * 1_000_000 // 30, number, 0, number) for number in range(20)]
    assert [(frame.time_us, frame.index, frame.connection, number) for frame, number in read(source)] == first
    assert source.corrupt == 0
    assert not source.live


def test_pictures_are_blue_green_red(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((40, 60, 3), (250, 120, 10), np.uint8))
    ((frame, _),) = read(source_of(tmp_path / "blue.png"))
    assert frame.bgr().shape == (40, 60, 3)
    assert frame.bgr()[20, 30].tolist() == [250, 120, 10]


@pytest.mark.parametrize("pixels", [np.uint8, np.uint16])
def test_alpha_and_deep_colours_become_bgr24(tmp_path: Path, pixels: type[np.generic]) -> None:
    full = np.iinfo(np.dtype(pixels)).max
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((40, 60, 4), full, pixels))
    ((frame, _),) = read(source_of(tmp_path / "deep.png"))
    assert frame.bgr().dtype == np.uint8
    assert (frame.bgr() >= 254).all()


def test_realtime_gives_frames_when_a_camera_would(write_video: WriteVideo) -> None:
    source = source_of(write_video(pts=[0, 3, 6, 9, 12]), "realtime")
    begin = time.time()
    seen = [(frame.time_us / 1e6, time.time()) for frame in source.frames(0, threading.Event())]
    assert all(captured <= arrived + 0.005 for captured, arrived in seen), "a frame came before its time"
    assert [round(captured - seen[0][0], 3) for captured, _ in seen] == [0, 0.1, 0.2, 0.3, 0.4]
    assert begin - 0.1 <= seen[0][0] <= seen[0][1]


def test_realtime_stops_promptly_between_distant_frames(write_video: WriteVideo) -> None:
    source, stop = source_of(write_video(pts=[0, 120]), "realtime"), threading.Event()
    frames = source.frames(0, stop)
    next(frames)
    threading.Timer(0.1, stop.set).start()
    assert next(frames, None) is None


def png(width: int, height: int) -> bytes:
    """A picture that says it is of this size."""
    data = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_header_that_claims_a_huge_picture_is_refused_without_the_memory_for_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(32768, 32768))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_refused(
        path, "not one frame could be decoded; it is damaged or cut off, copy it again; or larger than 8192x4320"
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_picture_that_would_crash_the_converter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.exr"
    path.write_bytes(open_exr("Y"))
    assert read(source_of(path))[0][0].bgr().shape == (8, 8, 3)
    path.write_bytes(open_exr("AY"))
    (frame,) = source_of(path).frames(0, threading.Event())
    with pytest.raises(
        SourceError, match=r"picture.exr: its pictures \(yaf32le\) cannot be converted; convert the file"
    ):
        frame.bgr()


@pytest.mark.parametrize("colours", [3, 8, 10, 99])
def test_colours_that_the_converter_does_not_know_are_no_reason_to_stop(colours: int) -> None:
    from streamer.sources.video import bgr

    frame = av.VideoFrame.from_ndarray(barcode(5), format="bgr24").reformat(format="yuv420p")
    frame.colorspace = colours
    assert read_barcode(bgr(frame)) == 5


def rotate(path: Path, degrees: int) -> None:
    """Write a rotation into an mp4, as phones do: the matrix of its track header. Positive: clockwise when shown."""
    data = bytearray(path.read_bytes())
    cos, sin = (round(f(math.radians(degrees))) << 16 for f in (math.cos, math.sin))
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_rotation_metadata_is_applied(write_video: WriteVideo, degrees: int, turns: int) -> None:
    path = write_video(pts=list(range(338)))
    rotate(path, degrees)
    frame, _ = read(source_of(path))[337]
    upright = np.rot90(barcode(337), turns)
    assert frame.bgr().shape == upright.shape
    assert np.abs(frame.bgr().astype(int) - upright).mean() < 20


def test_of_several_video_streams_the_one_marked_as_default_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(160, 128), (320, 256)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for number in range(10):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(barcode(number, stream.height, stream.width), format="bgr24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    found = read(source_of(path))
    assert [number for _, number in found] == list(range(10))
    assert found[0][0].bgr().shape == (256, 320, 3)


def test_file_uris_name_files_too(write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video("it's 100% me: a clip.mp4", count=3)
    monkeypatch.chdir(path.parent)
    for uri in (path.name, f"file:{path.name}", f"file:{path}", path.as_uri()):
        assert len(read(source_of(uri))) == 3, uri


def test_texts_in_a_file_may_be_in_any_encoding(write_video: WriteVideo) -> None:
    path = write_video(count=3)
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1  # the name of the program that wrote it
    path.write_bytes(data.replace(b"Lavf", b"L\xe9vf"))
    assert len(read(source_of(path))) == 3


def test_a_truncated_file_is_read_up_to_its_end(write_video: WriteVideo) -> None:
    path = write_video("clip.mkv", count=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    numbers = [number for _, number in read(source_of(path))]
    assert 5 < len(numbers) < 60
    assert numbers[:-1] == list(range(len(numbers) - 1))


def test_damaged_packets_are_counted_and_reading_goes_on(write_video: WriteVideo) -> None:
    path = write_video("clip.avi", count=40, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"00dc"]
    for chunk in at[11:14]:  # the first one is in the header
        data[chunk + 12 : chunk + 14] = b"\x00\x01"  # a JPEG segment shorter than its own length
    path.write_bytes(data)
    source = source_of(path)
    numbers = [number for _, number in read(source)]
    assert source.corrupt == 3
    assert numbers == [*range(10), *range(13, 40)]


def text(path: Path) -> None:
    path.write_text("This is not a video.\n" * 100)


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))


def song_with_cover(path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(barcode(1), format="bgr24")
    with av.open(str(path), "w") as container:
        audio, cover = container.add_stream("flac", rate=8000), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 160, 128, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(cover.encode(frame))
        container.mux([*audio.encode(samples), *audio.encode(None), *cover.encode(None)])


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing.mp4", lambda path: None, "No such file or directory; check the path"),
    ("folder.mp4", Path.mkdir, "this is a directory"),
    ("empty.mp4", Path.touch, "this file is empty"),
    ("text.txt", text, "this is a text"),
    ("text.mp4", text, "this is not a video"),
    ("noise.mp4", lambda path: path.write_bytes(random.Random(0).randbytes(50_000)), "this is not a video"),
    ("sound.wav", sound, "no video in it"),
    ("song.flac", song_with_cover, "no video in it"),
]


@pytest.mark.parametrize(("name", "make", "words"), BROKEN, ids=[name for name, _, _ in BROKEN])
def test_a_file_that_is_no_video_is_one_clear_sentence(
    tmp_path: Path, name: str, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / name)
    check_refused(tmp_path / name, words)


def check_refused(path: Path, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(source_of(f"file:{path}"))
    message = str(caught.value)
    assert message.startswith(f"file:{path}: ")
    assert words in message
    assert "\n" not in message
    assert caught.value.retry == "never"


def test_a_cut_mp4_is_refused(write_video: WriteVideo) -> None:
    path = write_video()
    path.write_bytes(path.read_bytes()[:1000])
    check_refused(path, "cut off")


def test_a_codec_that_is_not_there_is_named_as_the_reason(write_video: WriteVideo) -> None:
    path = write_video()
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    check_refused(path, "no decoder")


def test_a_file_without_one_good_frame_is_an_error_not_an_empty_success(write_video: WriteVideo) -> None:
    path = write_video("clip.mkv")
    data = bytearray(path.read_bytes())
    start = data.index(b"\x1f\x43\xb6\x75")  # the first cluster: where the pictures are
    data[start + 60 :] = bytes(len(data) - start - 60)
    path.write_bytes(data)
    check_refused(path, "not one frame")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_says_so(write_video: WriteVideo) -> None:
    path = write_video()
    path.chmod(0)
    check_refused(path, "permission denied")


def test_a_name_that_looks_like_an_address_stays_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="No such file"):
        read(source_of("file:pipe:0"))


def test_a_file_below_dev_is_a_file(write_video: WriteVideo) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm here")
    with tempfile.NamedTemporaryFile(suffix=".mp4", dir=memory) as file:
        file.write(write_video().read_bytes())
        file.flush()
        source = source_of(file.name)
        assert not source.live
        assert len(read(source)) == 20


@pytest.mark.parametrize("path", ["file:/dev/zero", "file:/dev/null"])
def test_a_device_is_no_file(path: str) -> None:
    with pytest.raises(SourceError, match="neither a file nor a pipe"):
        read(source_of(path))


@pytest.mark.parametrize(("name", "codec", "pixels"), [("a.gif", "gif", "bgr8"), ("a.apng", "apng", "rgb24")])
def test_animations_play_by_their_timestamps(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    path, pts = tmp_path / name, [0, 10, 50, 60, 160]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=100)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, pixels
        for number, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="bgr24").reformat(format=pixels)
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = read(source_of(path))
    assert [frame.time_us for frame, _ in found] == [10_000 * at for at in pts]
    assert [number for _, number in found] == list(range(5))


def test_an_animated_webp_that_cannot_be_read_says_what_to_convert_it_to(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    riff = b"WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0ANIM\x06\0\0\0\0\0\0\0\0\0"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(riff)) + riff)
    with pytest.raises(SourceError, match="animated WebP is not read here; convert it to a GIF"):
        read(source_of(path))


def test_what_can_be_played_once_only_or_has_no_end_is_no_loop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="a pipe cannot be played again"):
        open_source(SourceConfig(uri=str(tmp_path / "pipe"), loop=True))
    with pytest.raises(ValueError, match="loop plays in real time"):
        SourceConfig(uri="clip.mp4", loop=True, pace="fast")


def test_what_is_no_video_file_at_all_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    for name, why in ((".", "directory"), ("empty.mp4", "empty"), ("none.mp4", "No such file")):
        with pytest.raises(SourceError, match=why):
            open_source(SourceConfig(uri=f"file:{tmp_path / name}"))
