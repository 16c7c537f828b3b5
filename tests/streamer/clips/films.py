"""Packets to make clips of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from streamer.sources.packets import Format, Packet
from tools.cameras.barcode import barcode, read_barcode

FORM = Format("h264", 64, 48, b"")
SECOND = 1_000_000


def key(time_s: float, form: Format = FORM, run: tuple[int, int] = (0, 0), size: int = 10) -> Packet:
    """A keyframe that nobody will decode."""
    return Packet(bytes(size), round(time_s * SECOND), run, form)


def delta(time_s: float, run: tuple[int, int] = (0, 0), size: int = 10) -> Packet:
    """A picture that needs the ones before it."""
    return Packet(bytes(size), round(time_s * SECOND), run)


def film(count: int = 10, begin_s: float = 0.0) -> list[Packet]:
    """Numbered pictures, ten a second, with a keyframe each second."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 160, 128, "yuv420p", Fraction(1, 10)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "keyint=10:min-keyint=10"}
    packets = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(barcode(number), format="bgr24")
        frame.pts = number
        for packet in encoder.encode(frame):
            form = Format("h264", 160, 128, b"") if packet.is_keyframe else None
            packets.append(Packet(bytes(packet), round(begin_s * SECOND) + number * SECOND // 10, (0, 0), form))
    return packets


def numbers(path: Path) -> list[int]:
    """What the pictures of a clip show."""
    with av.open(str(path)) as container:
        return [read_barcode(np.asarray(frame.to_ndarray(format="bgr24"))) for frame in container.decode(video=0)]
