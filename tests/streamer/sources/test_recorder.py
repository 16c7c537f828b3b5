"""The packets of a source, written into a clip and read again: the same pictures at the same times."""

from __future__ import annotations

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
from streamer.sources.packets import Packet
from tools.cameras.barcode import read_barcode

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
        ("old.avi", "mjpeg", False, "thread"),
        ("bframes.mp4", "libx264", True, "process"),
        ("old.avi", "mjpeg", False, "process"),
        ("web.webm", "libvpx", False, "thread"),
    ],
)
def test_a_clip_shows_what_the_source_showed_at_its_times(
    write_video: Written, tmp_path: Path, name: str, codec: str, same: bool, capture: Capture
) -> None:
    path = write_video(name, 20, codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p")
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
