"""The packets of a source, written into a clip and read again: the same pictures at the same times."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.clips import mp4
from streamer.config import Capture, SourceConfig
from streamer.sources import open_source
from streamer.sources.encoder import Encoder
from streamer.sources.packets import Packet
from tests.conftest import WaitFor
from tools.cameras import RtspServer, write_rtsp_clip
from tools.cameras.barcode import barcode, read_barcode

PIXELS = {"professional.mp4": "yuv422p10le", "old.avi": "yuvj420p"}
Written = Callable[..., Path]


def record(uri: object, most: int | None = None, capture: Capture = "thread") -> tuple[list[Packet], dict[int, int]]:
    """The packets of a source, and the number in each of its pictures by its time."""
    source = open_source(SourceConfig.model_validate({"uri": str(uri), "pace": "fast", "capture": capture}))
    packets: list[Packet] = []
    source.on_packet = packets.append
    with closing(source), closing(source.recorded(0, threading.Event())) as frames:
        return packets, {frame.time_us: read_barcode(frame.bgr()) for frame in islice(frames, most)}


def shown(path: Path) -> tuple[str, dict[int, int]]:
    """The codec of a file, and the number in each picture by its time, microseconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = {}
        for frame in container.decode(stream):
            assert frame.time is not None
            frames[round(frame.time * 1e6)] = read_barcode(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
        return stream.codec_context.name, frames


@pytest.mark.parametrize(
    ("name", "codec", "same", "capture"),
    [
        (
            "bframes.mp4",
            "libx264",
            True,
            "thread",
        ),  # decoded in another order; lengths before the units
        ("bframes.mkv", "libx264", True, "thread"),
        ("codes.ts", "libx264", True, "thread"),  # with start codes
        ("new.mp4", "libx265", True, "thread"),
        ("untimed.h264", "libx264", False, "thread"),
        ("professional.mp4", "libx264", False, "thread"),  # colours that no browser plays
        ("old.avi", "mjpeg", False, "thread"),
        ("bframes.mp4", "libx264", True, "process"),
        ("old.avi", "mjpeg", False, "process"),
        ("web.webm", "libvpx", False, "thread"),
    ],
)
def test_a_clip_shows_what_the_source_showed_at_its_times(
    write_video: Written, tmp_path: Path, name: str, codec: str, same: bool, capture: Capture
) -> None:
    path = write_video(name, 20, codec=codec, pixels=PIXELS.get(name, "yuv420p"))
    packets, seen = record(path, capture=capture)
    begin_us, end_us = mp4.write(tmp_path / "clip.mp4", packets, "waving")
    kind, frames = shown(tmp_path / "clip.mp4")
    assert kind == ("hevc" if codec == "libx265" else "h264")
    found = {begin_us + at_us: number for at_us, number in frames.items()}
    assert found.items() <= seen.items()
    assert end_us == max(found)
    if same:
        assert found == seen
        assert sum(len(packet.data) for packet in packets) < 1.1 * path.stat().st_size
    else:  # what is read faster than it can be encoded is left out
        assert len(found) > 2


def test_a_video_that_is_to_be_turned_is_encoded_upright(write_video: Written, tmp_path: Path) -> None:
    path = write_video()
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *(-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30))
    path.write_bytes(data)
    packets, seen = record(path)
    begin_us, _ = mp4.write(tmp_path / "clip.mp4", packets, "waving")
    _, frames = shown(tmp_path / "clip.mp4")
    assert len(frames) > 2
    assert {begin_us + at_us: number for at_us, number in frames.items()}.items() <= seen.items()


def test_damage_costs_a_clip_no_more_than_the_recognition(write_video: Written, tmp_path: Path) -> None:
    path = write_video("clip.mkv", 60, pixels="yuv420p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    path.write_bytes(data)
    alone = open_source(SourceConfig(uri=str(path), pace="fast"))
    with closing(alone.frames(0, threading.Event())) as frames:
        times = [frame.time_us for frame in frames]
    packets, seen = record(path)
    assert list(seen) == times
    assert alone.corrupt
    assert packets
    mp4.write(tmp_path / "clip.mp4", packets, "waving")


def test_packets_of_a_camera_have_its_times_whatever_its_clock_and_its_pictures_do(
    rtsp_clip: Path, tmp_path: Path
) -> None:
    write_rtsp_clip(tmp_path / "large", height=240, width=320)
    server = RtspServer(rtsp_clip, "--large", str(tmp_path / "large"))
    source = open_source(SourceConfig(uri=server.url()))
    packets: list[Packet] = []
    source.on_packet = packets.append
    times: list[int] = []
    try:
        with closing(source.recorded(3, threading.Event())) as frames:
            for frame in islice(frames, 600):
                times.append(frame.time_us)
                if len(times) % 10 == 0 and frame.bgr().shape[0] == 240:
                    break
                if len(times) in {30, 60}:
                    server.command("jump 1" if len(times) == 30 else "large")
    finally:
        server.kill()
    assert [packet.time_us for packet in packets] == times
    assert {packet.run for packet in packets} == {(3, 0)}
    sizes = [(packet.form.width, packet.form.height) for packet in packets if packet.form]
    assert set(sizes) == {(160, 128), (320, 240)}


def test_pictures_that_the_machine_is_too_slow_for_are_left_out_and_counted(wait_for: WaitFor) -> None:
    given: list[Packet] = []
    hold = threading.Event()

    def take(packet: Packet) -> None:
        given.append(packet)
        hold.wait(30)

    encoder = Encoder(take)
    for number in range(50):
        encoder.offer(lambda: barcode(number), number * 100_000, (0, 0))  # noqa: B023
    hold.set()
    wait_for(lambda: len(given) > 3)
    encoder.offer(lambda: barcode(50), 6_000_000, (0, 0))
    encoder.close()
    encoder.close()
    wait_for(lambda: len(given) + sum(packet.left_out for packet in given) == 51)
    assert len(given) < 10


def test_a_camera_that_is_faster_than_a_clip_needs_is_thinned_out(wait_for: WaitFor) -> None:
    given: list[int] = []
    encoder = Encoder(lambda packet: given.append(packet.time_us))
    for number in range(20):
        before = len(given)
        encoder.offer(lambda: barcode(number), number * 10_000, (0, 0))  # noqa: B023
        if number % 3 == 0:
            wait_for(lambda: len(given) > before)  # noqa: B023
    encoder.close()
    assert given == [0, 30_000, 60_000, 90_000, 120_000, 150_000, 180_000]


def test_pictures_of_odd_and_changing_sizes_are_encoded(wait_for: WaitFor) -> None:
    given: list[Packet] = []
    encoder = Encoder(given.append)
    for number, (height, width) in enumerate(((129, 161), (1, 1), (96, 161))):
        encoder.offer(lambda: barcode(1, height, width), number * 100_000, (0, 0))  # noqa: B023
    encoder.close()
    wait_for(lambda: len(given) == 2)
    sizes = [(packet.form.width, packet.form.height) for packet in given if packet.form]
    assert sizes == [(160, 128), (160, 96)]
