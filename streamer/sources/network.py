"""Network cameras: RTSP, and MJPEG over HTTP."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Generator
from functools import partial

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.errors import Retry, SourceError
from streamer.sources.address import with_credentials
from streamer.sources.base import Source
from streamer.sources.clock import CaptureClock, UtcClock
from streamer.sources.video import LIMITS, Damage, decode, has_decoder, open_video, picture, pts_us, video_stream
from streamer.text import redact
from streamer.types import Frame, Timeline

_QUICK = {"analyzeduration": "0", "probesize": "32", "fpsprobesize": "0"}  # opens in 50 ms instead of 1.6 s
_THOROUGH = {"analyzeduration": "1000000", "probesize": "500000"}  # for cameras that describe themselves late
_UNTIMED = frozenset({"mjpeg", "mpjpeg"})  # formats without timestamps: FFmpeg makes them up at 25 fps

_OPEN_ERRORS: dict[type[Exception], tuple[str, Retry]] = {
    av.error.HTTPUnauthorizedError: ("wrong user name or password; check them in the address", "slow"),
    av.error.HTTPForbiddenError: ("this user may not watch; check the user's rights on the camera", "slow"),
    av.error.HTTPNotFoundError: ("the camera has no such stream; check the path in the address", "soon"),
    av.error.ConnectionRefusedError: ("connection refused; is the camera on, and is the port right?", "soon"),
    av.error.OSError: ("cannot be reached or read; check the host name, the path and the network", "soon"),
}


class NetworkSource(Source):
    """A camera at rtsp://, rtsps:// (H.264, H.265, ...) or http://, https:// (MJPEG)."""

    noisy = True

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        with_credentials(config)  # what is wrong with them is wrong for good

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        container, stream = self._open()
        try:
            yield from self._read(container, stream, connection, stop)
        except av.error.FFmpegError as error:
            late = isinstance(error, av.error.ExitError | av.error.TimeoutError)
            what = f"no data for {self.config.read_s:g} s" if late else f"connection lost ({error.strerror})"
            raise SourceError(f"{self.uri}: {what}; connecting again", "soon") from _harmless(error)
        finally:
            container.close()
        if not stop.is_set():
            raise SourceError(f"{self.uri}: disconnected by the camera; connecting again", "soon")

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            return self._connect(_QUICK)
        except _UnclearError:
            return self._connect(_THOROUGH)

    def _connect(self, probe: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        options = {
            "rtsp_transport": self.config.transport,
            "fflags": "nobuffer",
            "flags": "low_delay",
            "tls_verify": "0",  # cameras sign their certificates themselves; FFmpeg 9 would refuse them
            **LIMITS,
            **probe,
        }
        started = time.monotonic()
        try:
            container = open_video(with_credentials(self.config), options, (self.config.open_s, self.config.read_s))
        except av.error.FFmpegError as error:
            raise self._explained(error, time.monotonic() - started) from _harmless(error)
        try:
            return container, self._checked(container)
        except SourceError:
            container.close()
            raise

    def _checked(self, container: InputContainer) -> VideoStream:
        """The container's video stream, if it is live video that can be decoded."""
        if container.duration is not None and not self.config.uri.lower().startswith("rtsp"):
            raise SourceError(f"{self.uri}: a recording, not a live stream; download it and give the file's path")
        stream = video_stream(container)
        if stream is None:
            raise _UnclearError(f"{self.uri}: carries no video; check the path and the camera's settings", "slow")
        if not has_decoder(stream):
            raise _UnclearError(f"{self.uri}: no decoder for its video; set it to H.264, H.265 or MJPEG", "slow")
        if not stream.codec_context.width:
            raise _UnclearError(f"{self.uri}: sends no picture; check the camera", "soon")
        return stream

    def _explained(self, error: av.error.FFmpegError, elapsed_s: float) -> SourceError:
        """Why the connection failed. A port that never answers is known by the time it took, not by the error."""
        if elapsed_s >= 0.9 * self.config.open_s:
            advice = "is the camera on, and are host and port right?"
            return SourceError(f"{self.uri}: no answer within {self.config.open_s:g} s; {advice}", "soon")
        if isinstance(error, av.error.InvalidDataError):
            return _UnclearError(f"{self.uri}: answers, but not with video; check the path and the port", "soon")
        for kind, (text, retry) in _OPEN_ERRORS.items():
            if isinstance(error, kind):
                return SourceError(f"{self.uri}: {text}", retry)
        return SourceError(f"{self.uri}: cannot be opened ({error.strerror}); check the address", "soon")

    def _read(
        self, container: InputContainer, stream: VideoStream, connection: int, stop: threading.Event
    ) -> Generator[Frame, None, None]:
        clock, utc, damage = CaptureClock(), UtcClock(), Damage(self.damaged)
        timed = _UNTIMED.isdisjoint(container.format.name.split(","))
        for index, (frame, packet) in enumerate(decode(container, stream, self.damaged, stop)):
            pts = pts_us(frame) if timed else None
            arrival_us, arrived_s = utc.now_us(), time.monotonic()
            time_us = clock.utc_us(pts, arrival_us, _reference_us(packet, pts), utc.set_us)
            if damage.hides(frame, packet):
                continue
            show, timeline = partial(picture, frame, self.uri), Timeline(set_us=utc.set_us)
            yield Frame(time_us, index, connection, show, arrived_s, timeline, frame.key_frame)


class _UnclearError(SourceError):
    """The camera answers, but its stream was not understood (yet)."""


def _reference_us(packet: Packet[VideoStream], frame_us: int | None) -> int | None:
    """UTC of a frame as the camera says: the packet's producer reference time, moved to the frame's timestamp."""
    packet_us = pts_us(packet)
    if frame_us is None or packet_us is None or not packet.has_sidedata("prft"):
        return None
    wallclock_us: int = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))[0]
    return wallclock_us + frame_us - packet_us


def _harmless(error: Exception) -> OSError:
    """A copy for the chain of causes, which tracebacks print: PyAV's messages contain the address with its password."""
    return OSError(redact(str(error)))
