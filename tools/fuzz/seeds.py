"""The media that the fuzzer damages: small, sound, and made here, one of each kind that the sources read."""

from __future__ import annotations

import io
import random
import struct
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamer.types import Image
from tools.cameras.barcode import barcode

FRAMES = 12
_FPS = 30
_JPEG_HEAD = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


@dataclass(frozen=True)
class Seed:
    """One medium in parts, so that each is damaged as often as the others: a file has one.

    name  of the medium; a file's is its file name
    via   how it is read: a file, the body of an HTTP answer (parts: header lines, body), an RTSP session (parts: the
          description, the interleaved packets)
    """

    name: str
    via: Literal["file", "http", "rtsp"]
    parts: tuple[bytes, ...]
    frames: int = FRAMES


def make_seeds() -> list[Seed]:
    """Every medium; the same bytes each time with the same libraries."""
    x264 = {"preset": "veryfast", "x264-params": "keyint=6:threads=1"}
    x265 = {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:log-level=none"}
    files = {
        "h264.mp4": _container("mp4", "libx264", options=x264),
        "h264.mkv": _container("matroska", "libx264", options=x264),
        "h264.ts": _container("mpegts", "libx264", options=x264),
        "h264.flv": _container("flv", "libx264", options=x264),
        "hevc.mp4": _container("mp4", "libx265", options=x265),
        "vp9.webm": _container("webm", "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
        "vp8.webm": _container("webm", "libvpx", options={"deadline": "realtime", "cpu-used": "8"}),
        "mjpeg.avi": _container("avi", "mjpeg", "yuvj420p"),
        "mpeg4.avi": _container("avi", "mpeg4"),
        "mpeg2.mpg": _container("mpeg", "mpeg2video"),
        "prores.mov": _container("mov", "prores", "yuv422p10le"),
        "anim.gif": _container("gif", "gif", "rgb8"),
        "anim.apng": _container("apng", "apng", "rgb24"),
    }
    seeds = [Seed(name, "file", (data,)) for name, data in files.items()]
    for name, codec, pixels in (("one.png", "png", "rgb24"), ("one.jpg", "mjpeg", "yuvj420p")):
        seeds.append(Seed(name, "file", (_packets(codec, pixels, 1)[0],), frames=1))
    seeds.append(Seed("one.exr", "file", (open_exr("Y"),), frames=1))
    cameras = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "keyint=4:repeat-headers=1:threads=1"}
    units = _packets("libx264", "yuv420p", FRAMES, cameras)
    seeds.append(Seed("raw.h264", "file", (b"".join(units),)))
    jpegs = _packets("mjpeg", "yuvj420p", FRAMES)
    body = b"".join(_JPEG_HEAD % len(jpeg) + jpeg + b"\r\n" for jpeg in jpegs)
    multipart = b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    seeds.append(Seed("mjpeg over http", "http", (multipart, body)))
    seeds.append(Seed("mpeg-ts over http", "http", (b"Content-Type: video/mp2t\r\n", files["h264.ts"])))
    seeds.append(Seed("h264 over rtsp", "rtsp", _rtsp(units)))
    return seeds


def _pictures(count: int) -> Iterator[Image]:
    """Numbered pictures with a grain that moves, so that every part of a decoder has work."""
    grain = np.random.default_rng(0).integers(0, 40, (128 + FRAMES, 160, 1), np.uint8)
    for number in range(count):
        yield barcode(number) // 2 + grain[number : number + 128]


def _container(form: str, codec: str, pixels: str = "yuv420p", options: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    exact = {"fflags": "+bitexact"}
    with av.open(file, "w", format=form, container_options=exact) as container:
        stream = container.add_stream(codec, rate=_FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, pixels
        stream.thread_count = 1
        for number, picture in enumerate(_pictures(FRAMES)):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, _FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _packets(codec: str, pixels: str, count: int, options: dict[str, str] | None = None) -> list[bytes]:
    """The bare packets of an encoder."""
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 160, 128, pixels
    encoder.time_base, encoder.options = Fraction(1, _FPS), options or {}
    encoder.thread_count = 1
    packets = []
    for number, picture in enumerate(_pictures(count)):
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = number
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in (*packets, *encoder.encode(None))]


def split_units(data: bytes) -> list[bytes]:
    """The NAL units of an H.264 byte stream, without their start codes."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


def _rtsp(units: list[bytes]) -> tuple[bytes, bytes]:
    """The description of a session, and its packets as they go over TCP: RTP (RFC 3550, 6184) in RTSP's frames."""
    parameters = ",".join(b64encode(unit).decode() for unit in split_units(units[0]) if unit[0] & 31 in (7, 8))
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
        f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={parameters}\r\n"
        "a=control:trackID=0\r\n"
    )
    packets, sequence = [], 0
    for number, access in enumerate(units):
        nals = split_units(access)
        for nal in nals:
            marker = 0x80 if nal is nals[-1] else 0
            head = struct.pack(">BBHII", 0x80, marker | 96, sequence, number * 90_000 // _FPS, 1)
            packets.append(struct.pack(">cBH", b"$", 0, len(head) + len(nal)) + head + nal)
            sequence += 1
    return description.encode(), b"".join(packets)


def huge_parameters(width: int, height: int) -> bytes:
    """An H.264 sequence parameter set (7.3.2.1.1, baseline) that claims a picture of this size, in pixels."""

    def golomb(value: int) -> str:
        bits = f"{value + 1:b}"
        return "0" * (len(bits) - 1) + bits

    # id, frame numbers of 4 bits, order type 2, one reference, no gaps, size, frames only, no 8x8, no crop, no VUI
    numbers = golomb(0) + golomb(0) + golomb(2) + golomb(1) + "0"
    bits = numbers + golomb(width // 16 - 1) + golomb(height // 16 - 1) + "1000" + "1"
    bits += "0" * (-len(bits) % 8)
    return bytes((0x67, 66, 0xC0, 62)) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def open_exr(channels: str) -> bytes:
    """An OpenEXR picture of 8x8 pixels, with 32-bit floats in these channels."""

    def attribute(name: str, kind: str, data: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + struct.pack("<I", len(data)) + data

    window, size = struct.pack("<4i", 0, 0, 7, 7), 8 * 4 * len(channels)
    listed = b"".join(channel.encode() + struct.pack("<xI4xII", 2, 1, 1) for channel in channels) + b"\0"
    head = struct.pack("<II", 20000630, 2) + attribute("channels", "chlist", listed)
    head += attribute("compression", "compression", b"\0") + attribute("lineOrder", "lineOrder", b"\0")
    head += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    head += attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", bytes(8)) + attribute("screenWindowWidth", "float", bytes(4)) + b"\0"
    places = b"".join(struct.pack("<Q", len(head) + 64 + line * (8 + size)) for line in range(8))
    return head + places + b"".join(struct.pack("<iI", line, size) + bytes(size) for line in range(8))


def pick(seeds: list[Seed], rng: random.Random) -> Seed:
    """One of them; what comes over a network is read more slowly, so it comes less often."""
    return rng.choices(seeds, [4 if seed.via == "file" else 2 for seed in seeds])[0]
