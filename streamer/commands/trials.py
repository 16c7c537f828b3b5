"""What `streamer check` tries for real: a tiny video, a tiny camera and one label, each read as a run would read it."""

from __future__ import annotations

import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import av
import numpy as np

from streamer.config import Capture, SourceConfig
from streamer.errors import SourceError, StreamerError
from streamer.labels.messages import Stamp
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from streamer.sources import open_source
from streamer.system import LINUX

_FRAMES, _WIDTH, _HEIGHT, _FPS = 10, 64, 48, 30
_READ = 3  # so many of them: a decoder keeps some until others come
TIMEOUT_S = 10.0
_CLOCK_HZ = 90_000  # of RTP's timestamps for video
_UNIT = b"\0\0\1"  # the mark before each unit of H.264
_SDP = b"v=0\r\ns=check\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n"


def fault(trial: Callable[[], None]) -> str | None:
    """Why a trial failed; None if it did not. Anything may be wrong with a library, so any exception is caught."""
    try:
        trial()
    except StreamerError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def try_video() -> None:
    """Write a video file, and read it in this process and in one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "check.mp4")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=_FPS)
            stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
            for frame in _drawn():
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        captures: tuple[Capture, ...] = ("thread", "process") if LINUX else ("thread",)
        for capture in captures:
            _read(SourceConfig(uri=str(path), pace="fast", capture=capture))


def try_camera() -> None:
    """Be a camera at rtsp://, and connect to it."""
    with ThreadingTCPServer(("127.0.0.1", 0), _Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            _read(SourceConfig(uri=f"rtsp://127.0.0.1:{server.server_address[1]}/check", transport="tcp"))
        finally:
            server.shutdown()


def try_labels() -> None:
    """Publish a message, and receive it."""
    with (
        Publisher("tcp://127.0.0.1:*", "check", "stream") as publisher,
        Subscriber(publisher.address, timeout_s=0.05) as subscriber,
    ):
        publisher.send(publisher.build.status("check", Stamp(), "connecting"))
        for _ in range(round(TIMEOUT_S / 0.05)):
            publisher.poll()
            with suppress(TimeoutError):
                next(subscriber)
                return
    raise StreamerError(f"no message came back within {TIMEOUT_S:g} s; does a firewall cut off 127.0.0.1?")


def _read(config: SourceConfig) -> None:
    with closing(open_source(config)) as source, closing(source.frames(0, threading.Event())) as frames:
        for _ in range(_READ):
            frame = next(frames, None)
            if frame is None or frame.bgr().shape != (_HEIGHT, _WIDTH, 3):
                raise SourceError(f"{config.uri}: frames are missing or of a wrong size")


def _drawn() -> list[av.VideoFrame]:
    pictures = [np.full((_HEIGHT, _WIDTH, 3), 20 * number, np.uint8) for number in range(_FRAMES)]
    frames = [av.VideoFrame.from_ndarray(picture, format="bgr24") for picture in pictures]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, _FPS)
    return frames


class _Camera(StreamRequestHandler):
    """As much of an RTSP server (RFC 2326) as one reader over TCP asks for, with H.264 in RTP packets (RFC 6184)."""

    def handle(self) -> None:
        with suppress(OSError):
            while request := self.rfile.readline().split():
                fields = dict(line.split(b": ", 1) for line in iter(lambda: self.rfile.readline().strip(), b""))
                self._answer(request[0], fields.get(b"CSeq", b"0"))

    def _answer(self, method: bytes, number: bytes) -> None:
        body = _SDP if method == b"DESCRIBE" else b""
        self.wfile.write(
            b"RTSP/1.0 200 OK\r\nCSeq: %b\r\nSession: 1\r\nPublic: DESCRIBE, SETUP, PLAY\r\n"
            b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nContent-Type: application/sdp\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (number, len(body), body)
        )
        if method == b"PLAY":
            for packet in _rtp_packets():
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def _rtp_packets() -> Iterator[bytes]:
    """The drawn frames; each unit of H.264 is small enough for a packet of its own."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(_FPS), Fraction(1, _FPS)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": "keyint=1:repeat-headers=1:slices=1",
    }
    numbers = count()
    for picture, frame in enumerate(_drawn()):
        units = b"".join(map(bytes, encoder.encode(frame))).split(_UNIT)[1:]
        for unit in units:
            last = 0x80 if unit is units[-1] else 0
            head = struct.pack(">BBHII", 0x80, last | 96, next(numbers), picture * _CLOCK_HZ // _FPS, 1)
            yield head + unit.rstrip(b"\0")  # a zero at the end belongs to the mark of the next unit
