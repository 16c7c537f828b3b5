"""What all network cameras that FFmpeg decodes share: is it live video, and its frames in time."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from functools import partial

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.clock import CaptureClock, UtcClock
from streamer.sources.hardware import in_software
from streamer.sources.sparing import Sparing
from streamer.sources.video import Damage, Smaller, decode, has_decoder, picture, pts_us, video_stream
from streamer.sources.waited import Waited
from streamer.text import redact
from streamer.types import Frame, Timeline

_UNTIMED = frozenset({"h264", "hevc", "mjpeg", "mpjpeg"})  # formats without timestamps: FFmpeg makes them up
_KEYFRAME = "waits for a keyframe; where that takes long, set a shorter keyframe interval (GOP) in the camera"
_KEYFRAME_S = 1.0  # a connection without a picture for so long says what it waits for


class UnclearError(SourceError):
    """The camera answers, but its stream was not understood (yet)."""


def live_stream(source: Source, container: InputContainer) -> VideoStream:
    """The container's video stream, if it can be decoded; `UnclearError`."""
    stream = video_stream(container)
    if stream is None:
        raise UnclearError(f"{source.uri}: carries no video; check the path and the camera's settings", "slow")
    if not has_decoder(stream):
        raise UnclearError(f"{source.uri}: no decoder for its video; set it to H.264, H.265 or MJPEG", "slow")
    return stream


def live_frames(
    source: Source,
    container: InputContainer,
    stream: VideoStream,
    connection: int,
    stop: threading.Event,
    note: str = "",
    came: Callable[[], None] = lambda: None,
) -> Generator[Frame, None, None]:
    """The frames of a connection; FFmpegError when it is lost.

    note: what is to be told of it. came: called for each packet.
    """
    clock, utc, waited, smaller = CaptureClock(), UtcClock(), Waited(), Smaller()
    damage = Damage(source.damaged, jpeg=stream.codec_context.name == "mjpeg")
    timed = _UNTIMED.isdisjoint(container.format.name.split(","))
    base = stream.time_base if timed else None
    began, seen = time.monotonic(), False

    def heard(shown: bool) -> None:
        came()
        if not (seen or shown):
            source.say(_KEYFRAME if time.monotonic() - began > _KEYFRAME_S else note)

    sparing = Sparing(source, stream, base)
    decoded = decode(container, stream, source.damaged, stop, heard, source.recorder, sparing.due)
    for index, (frame, packet) in enumerate(decoded):
        pts, now_s = pts_us(frame, base), time.monotonic()
        time_us = clock.utc_us(pts, utc.now_us(), _reference_us(packet, pts, base), utc.set_us)
        arrived_s = now_s - waited.wait_s(pts, now_s)
        if not seen:
            seen = True
            source.say("; ".join(filter(None, (note, in_software(source.config.hwaccel, stream)))))
        if not damage.hides(frame, packet):
            show, timeline = partial(picture, frame, source.uri, packet), Timeline(set_us=utc.set_us)
            shrink = partial(smaller.small, frame, packet)
            left_out = sparing.count()
            yield Frame(time_us, index, connection, show, arrived_s, timeline, frame.key_frame, shrink, left_out)


def _reference_us(packet: Packet[VideoStream], frame_us: int | None, base: Fraction | None) -> int | None:
    """UTC of a frame as the camera says: the packet's producer reference time, moved to the frame's timestamp."""
    if not packet.has_sidedata("prft"):
        return None
    packet_us = pts_us(packet, base)
    if frame_us is None or packet_us is None:
        return None
    wallclock_us: int = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))[0]
    return wallclock_us + frame_us - packet_us


def harmless(error: Exception) -> OSError:
    """A copy for the chain of causes, which tracebacks print: PyAV's messages contain the address with its password."""
    return OSError(redact(str(error)))
