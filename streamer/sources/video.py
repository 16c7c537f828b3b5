"""What network cameras and files share: reading video with PyAV (FFmpeg)."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, Protocol

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from streamer.config import Hwaccel
from streamer.errors import SourceError
from streamer.sources.hardware import accelerator
from streamer.sources.packets import Recorder
from streamer.sources.upright import UPRIGHT, orientation, turned
from streamer.types import Image, Size

MOST_PIXELS = 8192 * 4320
"""Of a picture: 8K. A damaged header shall not cost gigabytes and minutes."""

LIMITS = {"max_pixels": str(MOST_PIXELS)}
"""Options for `av.open` and for decoders."""

MOST_AT_ONCE = 1 << 28
"""Bytes that FFmpeg may allocate at a time. No option bounds what a parser collects of a picture that never ends."""

_ANY_METADATA: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
_ABORTING = frozenset({"yaf32le", "yaf32be"})  # pixel formats (of OpenEXR) that crash the converter of FFmpeg 8
_FFMPEG = ctypes.CDLL(av._core.__file__)  # finds what PyAV has loaded
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_DAMAGE_FRAMES, _MOST_DAMAGED = 25, 6  # so many of the last frames may be damaged
_JPEG_END, _JPEG_PADDING = b"\xff\xd9", 64  # bytes; there may be padding behind the end
_MOST_FAILURES = 100  # reads that fail one after the other: the container does not get past the damage


class Bytes(Protocol):
    """What can be read like a file, but not again."""

    def read(self, most: int, /) -> bytes:
        """At most so many bytes, as soon as there are any; empty at the end."""


def open_video(
    address: str | Bytes,
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
    format: str | None = None,  # noqa: A002
    hwaccel: Hwaccel = "none",
) -> InputContainer:
    """The container at `address`, or in these bytes, in whatever encoding its texts are: nobody reads them.

    PyAV before 19 has to be told so, or fails on what is not UTF-8; 19 keeps such bytes, and has no argument for it.

    timeout: for opening and for each read, in seconds. format: what it must be; None: what it looks like. hwaccel: as
    in the configuration; `in_software` says what became of it.
    """
    with suppress(AttributeError):  # an FFmpeg within PyAV shows no names
        _FFMPEG.av_max_alloc(ctypes.c_size_t(MOST_AT_ONCE))
    container: InputContainer = av.open(
        address, format=format, options=options, timeout=timeout, hwaccel=accelerator(hwaccel), **_ANY_METADATA
    )
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The container's best video stream, ready for decoding; None if it has none, and cover pictures of songs are none.

    Slices, not frames, are decoded in parallel: frame threads delay every picture by their number.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        return None
    if has_decoder(stream):
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = LIMITS
    return stream


def has_decoder(stream: VideoStream) -> bool:
    """Whether this FFmpeg can decode the stream. PyAV's annotations hide that there may be no codec context."""
    return getattr(stream, "codec_context", None) is not None


def decode(
    container: InputContainer,
    stream: VideoStream,
    damaged: Callable[[], None],
    stop: threading.Event,
    heard: Callable[[bool], None] = lambda _: None,
    recorder: Recorder | None = None,
    due: Callable[[Packet[VideoStream]], Sequence[Packet[VideoStream]]] = lambda packet: (packet,),
) -> Iterator[tuple[av.VideoFrame, Packet[VideoStream]]]:
    """Every frame of the stream with the packet that completed it, until the end or `stop`.

    `damaged` is called for each bad packet and frame. Damaged frames are given too: a smeared picture in time beats a
    hole. `heard` is called for each packet, with whether it gives a frame. `recorder` sees both, before they are given.
    `due` tells for each packet what is to be decoded. FFmpegError when reading cannot go on.
    """
    failures = 0
    recorder = recorder or Recorder()
    packets = recorder.demuxed(container.demux(stream), stream, container)
    while not stop.is_set():
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError:
            damaged()
            failures += 1
            if failures == _MOST_FAILURES:
                raise
            packets = recorder.demuxed(container.demux(stream), stream, container)
            continue
        if packet is None:
            return
        failures = 0
        try:
            frames = [frame for one in due(packet) for frame in one.decode()]
        except av.error.FFmpegError:
            damaged()
            frames = []
        heard(bool(frames))
        for frame in frames:
            if frame.is_corrupt:
                damaged()
            recorder.decoded(frame)
            yield frame, packet


class Damage:
    """Tells when damage hides the scene: while more than 6 of a connection's last 25 frames are damaged.

    A smeared picture now and then beats a hole. But a decoder fills what it lacks with what it showed before, and
    frames that build on such a picture count as whole; when much is damaged, they show a scene that is over.

    damaged: called for each frame that `decode` has not called it for, and that is cut off or hidden. jpeg: the frames
    are JPEGs.
    """

    def __init__(self, damaged: Callable[[], None], *, jpeg: bool) -> None:
        self._damaged, self._jpeg = damaged, jpeg
        self._recent: deque[bool] = deque(maxlen=_DAMAGE_FRAMES)
        self._ends = False  # the camera ends its JPEGs as it should; not all do

    def hides(self, frame: av.VideoFrame, packet: Packet[VideoStream]) -> bool:
        """Whether the next frame, which this packet completed, should not be believed."""
        told = frame.is_corrupt
        self._recent.append(told or self._cut_off(packet))
        hidden = sum(self._recent) > _MOST_DAMAGED
        if not told and (hidden or self._recent[-1]):
            self._damaged()
        return hidden

    def _cut_off(self, packet: Packet[VideoStream]) -> bool:
        """Whether this is the beginning of a JPEG: FFmpeg fills up the rest from an older picture without a word."""
        if not self._jpeg:
            return False
        ends = _JPEG_END in bytes(memoryview(packet)[-_JPEG_PADDING:])
        self._ends |= ends
        return self._ends and not ends


def pts_us(timed: av.VideoFrame | Packet[VideoStream], base: Fraction | None) -> int | None:
    """The timestamp in microseconds from the stream's own zero; None if it has none. base: its unit, seconds."""
    if timed.pts is None or base is None:
        return None
    return timed.pts * base.numerator * 1_000_000 // base.denominator


def bgr(frame: av.VideoFrame, packet: Packet[VideoStream] | None = None) -> Image:
    """The frame as a picture [H, W, 3], upright and not mirrored, as `orientation` says.

    What cannot be converted as its colours are said to be is converted as if nothing were said of them. FFmpegError
    when that cannot be, either. All in this thread: PyAV's default starts a thread per processor for each frame, and
    fails where no more may be started.
    """
    if frame.format.name in _ABORTING:
        raise av.error.PatchWelcomeError(0, f"{frame.format.name} would crash the converter")
    try:
        image = frame.to_ndarray(format="bgr24", threads=1)
    except av.error.FFmpegError:
        frame.colorspace = _UNSPECIFIED
        image = frame.to_ndarray(format="bgr24", threads=1)
    return np.ascontiguousarray(turned(np.asarray(image, np.uint8), orientation(frame, packet)))


class Smaller:
    """Makes the frames of one connection smaller as `Frame.small` says, in its thread.

    Brightness and colours are averaged as they are stored and then converted, which gives the same but for rounding.
    """

    def __init__(self) -> None:
        self._scaler, self._painter = VideoReformatter(), VideoReformatter()  # what they prepare is for the next frame

    def small(self, frame: av.VideoFrame, packet: Packet[VideoStream], sized: Callable[[Size], Size]) -> Image | None:
        """The frame in the size that `sized` makes of its own, if that is smaller and it need not be turned."""
        height, width = sized((frame.height, frame.width))
        shrinks = height <= frame.height and width <= frame.width
        if not shrinks or frame.format.name in _ABORTING or frame.format.is_rgb:
            return None
        if orientation(frame, packet) != UPRIGHT:
            return None
        try:
            scaled = self._scaler.reformat(frame, width, height, "yuv444p", interpolation="AREA", threads=1)
            return np.asarray(self._painter.reformat(scaled, format="bgr24", threads=1).to_ndarray(), np.uint8)
        except av.error.FFmpegError:
            return None


def picture(frame: av.VideoFrame, uri: str, packet: Packet[VideoStream] | None = None) -> Image:
    """As `bgr`, for the source at `uri`: SourceError when the frame cannot be converted."""
    try:
        return bgr(frame, packet)
    except av.error.FFmpegError as error:
        advice = "convert the file to H.264 (ffmpeg -i FILE -c:v libx264 OUT.mp4), or set the camera to it"
        raise SourceError(f"{uri}: its pictures ({frame.format.name}) cannot be converted; {advice}", "slow") from error
