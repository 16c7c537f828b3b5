"""Attacks by hostile cameras: whoever answers at the address that a run was told to read."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, repeat

import av
import cv2
import numpy as np

from tools.attack.target import Attack, Target
from tools.cameras.answering import HEAD, Answering

Answer = Callable[[str], Iterable[bytes]]
"""What a camera says to a request, piece by piece."""

OK = HEAD + b"Content-Type: "
MJPEG = OK + b"multipart/x-mixed-replace; boundary=b\r\n\r\n"
_PIECE = 1 << 18  # bytes that are sent at once
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
_STREAM = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


@contextmanager
def _camera(answer: Answer, *, keep: bool = False) -> Iterator[Answering]:
    camera = Answering(answer, keep=keep)
    try:
        yield camera
    finally:
        camera.kill()


def _pours(head: bytes, more: bytes) -> Answer:
    """Says this, and then that again and again, as fast as it is taken."""
    return lambda _: chain([head], repeat(more * max(1, _PIECE // len(more))))


def _watched(target: Target, answer: Answer, scheme: str = "http") -> list[str]:
    """Let the run read a camera that answers so."""
    with _camera(answer, keep=scheme == "rtsp") as camera:
        target.add(camera.url(scheme=scheme), "camera")
        for _ in target.moments(0.1):
            pass
        target.remove("camera")
        return [] if camera.accepted else ["the camera was not asked, so nothing was tried"]


def _visited(target: Target, answer: Callable[[int], bytes], scheme: str = "http") -> list[str]:
    """Let the run read a camera whose answer names the port of somebody else; whether it went there."""
    with _camera(lambda _: []) as other:
        problems = _watched(target, lambda _: [answer(other.port)], scheme)
        return problems + ["the camera made the run go somewhere else"] * bool(other.accepted)


def redirects(target: Target) -> list[str]:
    """A camera that sends the run to another port of this machine, with a cookie that is a command."""
    cookie = b"a=" + b"\x01" * 60 + b"drain"

    def answer(port: int) -> bytes:
        place = f"Location: http://127.0.0.1:{port}/x\r\n".encode()
        return b"HTTP/1.1 302 Found\r\nSet-Cookie: " + cookie + b"\r\n" + place + b"Content-Length: 0\r\n\r\n"

    return _visited(target, answer)


def rtsp_redirects(target: Target) -> list[str]:
    """The same over RTSP."""

    def answer(port: int) -> bytes:
        return f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1:{port}/x\r\n\r\n".encode()

    return _visited(target, answer, "rtsp")


def playlists(target: Target) -> list[str]:
    """A camera whose answer is a list of addresses of others, and of files."""

    def answer(port: int) -> bytes:
        addresses = f"http://127.0.0.1:{port}/a.ts", f"tcp://127.0.0.1:{port}", "file:///etc/passwd"
        body = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + "".join(f"#EXTINF:1,\n{one}\n" for one in addresses)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    return _visited(target, answer)


def endless_heads(target: Target) -> list[str]:
    """A header that never ends."""
    return _watched(target, _pours(b"HTTP/1.0 200 OK\r\n", b"Set-Cookie: " + b"v" * 60_000 + b"\r\n"))


def endless_continue(target: Target) -> list[str]:
    """Interim answers without end."""
    return _watched(target, _pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n"))


def endless_rtsp(target: Target) -> list[str]:
    """An RTSP answer whose length is negative, and that goes on."""
    return _watched(target, _pours(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: -1\r\n\r\n", b"\0" * 65536), "rtsp")


def endless_pictures(target: Target) -> list[str]:
    """A JPEG that never ends."""
    return _watched(target, _pours(MJPEG + b"--b\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff", b"x" * 65536))


def endless_slice(target: Target) -> list[str]:
    """A picture in H.264 that never ends."""
    last = b"\0\0\0\1\x65"
    return _watched(target, _pours(OK + b"video/h264\r\n\r\n" + _h264() + last, b"\xa5" * 65536))


def endless_rtp(target: Target) -> list[str]:
    """The same over RTSP: fragments of a picture (RFC 6184, FU-A), and never the last one."""

    def pieces() -> Iterator[bytes]:
        for number in count():
            fragment = b"\x7c" + (b"\x05" if number else b"\x85") + b"\xa5" * 60_000
            packet = struct.pack(">BBHII", 0x80, 96, number % 65536, 0, 7) + fragment
            yield b"$\0" + struct.pack(">H", len(packet)) + packet

    return _watched(target, partial(_rtsp, _SDP + _STREAM, pieces), "rtsp")


def crowded_rtsp(target: Target) -> list[str]:
    """Nine hundred streams, and only over UDP."""
    return _watched(target, partial(_rtsp, _SDP + _STREAM * 900, list, only="UDP"), "rtsp")


def _rtsp(sdp: str, pieces: Callable[[], Iterable[bytes]], request: str, only: str = "") -> Iterator[bytes]:
    """The answer of an RTSP camera that describes itself so, and sends that. only: the transport that it knows."""
    fields = dict(line.split(": ", 1) for line in request.splitlines()[1:] if ": " in line)
    transport = fields.get("Transport", only)
    status = "200 OK" if only in transport else "461 Unsupported Transport"
    body = sdp if request.startswith("DESCRIBE") else ""
    yield (
        f"RTSP/1.0 {status}\r\nCSeq: {fields['CSeq']}\r\nSession: 1\r\nTransport: {transport}\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    if request.startswith("PLAY"):
        yield from pieces()


def _h264() -> bytes:
    """Two seconds of noise."""
    video, noise = io.BytesIO(), np.random.default_rng(7)
    with av.open(video, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=30, options={"tune": "zerolatency", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise.integers(0, 255, (48, 64, 3), np.uint8))))
        container.mux(stream.encode())
    return video.getvalue()


def endless_atom(target: Target) -> list[str]:
    """An MP4 whose table of samples is two gigabytes long."""

    def atom(kind: bytes, body: bytes, size: int = 0) -> bytes:
        return struct.pack(">I", size or 8 + len(body)) + kind + body

    nested = atom(b"stsz", struct.pack(">III", 0, 0, 500_000_000), 0x7FFF0000)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        nested = atom(kind, nested, 0x7FFF0000 + 8)
    head = atom(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
    return _watched(target, _pours(OK + b"video/mp4\r\n\r\n" + head + nested, b"\1" * 65536))


def crowded_parts(target: Target) -> list[str]:
    """Pictures of four bytes, each with a header full of lengths."""
    part = (b"Content-Length: 9\r\n" * 210)[:4000] + b"\xff\xd8\xff\xd9"
    return _watched(target, _pours(MJPEG, part))


def tiny_pictures(target: Target) -> list[str]:
    """Sound pictures of 8x8 pixels, as fast as they are taken."""
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    return _watched(target, _pours(MJPEG, b"--b\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)))


def empty_pictures(target: Target) -> list[str]:
    """Pictures of four bytes."""
    return _watched(target, _pours(MJPEG, b"\xff\xd8\xff\xd9"))


def huge_pictures(target: Target) -> list[str]:
    """Pictures of 8K, as fast as they are taken."""
    jpeg = cv2.imencode(".jpg", np.zeros((4320, 8192, 3), np.uint8))[1].tobytes()
    return _watched(target, _pours(MJPEG, b"--b\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)))


ATTACKS = (
    Attack("redirecting-camera", "a camera sends the run to another port", redirects),
    Attack("redirecting-rtsp", "the same over RTSP", rtsp_redirects),
    Attack("playlist-camera", "a camera answers with others' addresses", playlists),
    Attack("endless-head", "a camera's header never ends", endless_heads),
    Attack("endless-continue", "a camera says 100 Continue without end", endless_continue),
    Attack("endless-rtsp", "the length of a camera's answer is negative", endless_rtsp),
    Attack("endless-jpeg", "a camera's picture never ends", endless_pictures),
    Attack("endless-slice", "the same in H.264", endless_slice),
    Attack("endless-rtp", "the same over RTSP", endless_rtp),
    Attack("endless-atom", "a table of an MP4 never ends", endless_atom),
    Attack("crowded-rtsp", "a camera names nine hundred streams", crowded_rtsp),
    Attack("crowded-parts", "tiny pictures with crowded headers", crowded_parts),
    Attack("tiny-pictures", "pictures of 8x8, as fast as they are taken", tiny_pictures),
    Attack("empty-pictures", "pictures of four bytes", empty_pictures),
    Attack("huge-pictures", "pictures of 8K, as fast as they are taken", huge_pictures),
)
