"""The compressed pictures of a source, for clips: those that the camera sends, or else encoded here, once.

    container ──> demuxed ──> decode ──> decoded ──> the source's own way ──> recorded ──> whoever reads the frames
                     │ packets              │ timestamps                         │ times
                     └──────────────────────┴─────── matched by timestamp ───────┴──> Packet

H.264 and H.265 go as they come, if their container has timestamps and a browser shows the pictures as they are to be
seen; others are encoded (encoder.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Literal

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet as Compressed
from av.video.stream import VideoStream

from streamer.sources.encoder import Encoder
from streamer.sources.packets import Format, Packet, Recorder
from streamer.sources.upright import UPRIGHT, orientation
from streamer.types import Frame

_MOST_WAITING = 64  # packets whose pictures have not been shown yet; decoders hold back 16 at most
_HEAD = 1 << 13  # parameter sets stand in the first so many bytes
_START = b"\0\0\1"
_PLAYED = frozenset({"yuv420p", "yuvj420p", "nv12"})  # of H.264; no browser plays its others
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_SETS: dict[str, frozenset[int]] = {"h264": frozenset({7, 8}), "hevc": frozenset({32, 33, 34})}  # all parameter sets
_CODECS: dict[str, Literal["h264", "hevc"]] = {"h264": "h264", "hevc": "hevc"}
_SEQUENCE = {"h264": 7, "hevc": 33}


@dataclass(slots=True)
class _Waiting:
    """A packet whose picture has not been shown yet, or one before it."""

    data: bytes
    pts_us: int | None
    is_key: bool
    time_us: int | None = None


class PacketRecorder(Recorder):
    """The packets of one connection: `emit` gets them in the order of decoding, from the first keyframe on."""

    def __init__(self, emit: Callable[[Packet], None], connection: int) -> None:
        self._emit, self._connection = emit, connection
        self._codec: Literal["h264", "hevc"] | None = None  # of packets that go as they come
        self._head = b""  # parameter sets that the container has, with start codes
        self._encodes = False  # no browser would show its pictures as they are to be seen
        self._waiting: deque[_Waiting] = deque()
        self._pts_us: int | None = None
        self._size: tuple[int, int] | None = None  # of the last frame

    def demuxed(
        self, packets: Iterator[Compressed[VideoStream]], stream: VideoStream, container: InputContainer
    ) -> Iterator[Compressed[VideoStream]]:
        """As in `Recorder`; called anew when reading begins again behind a damaged place."""
        codec = _CODECS.get(stream.codec_context.name)
        if self._encodes or codec is None or container.format.flags & _NO_TIMESTAMPS:
            return packets
        head = stream.codec_context.extradata or b""
        to_start_codes = None
        if head[:1] == b"\1":  # lengths stand before the units, as in MP4 and Matroska
            try:
                to_start_codes = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
            except av.error.FFmpegError:  # its header is damaged
                return packets
        else:
            self._head = head
        self._codec = codec
        return self._noted(packets, to_start_codes)

    def _noted(
        self, packets: Iterator[Compressed[VideoStream]], to_start_codes: BitStreamFilterContext | None
    ) -> Iterator[Compressed[VideoStream]]:
        for packet in packets:
            stamp = packet.dts if packet.pts is None else packet.pts
            if packet.size and self._codec:
                with suppress(av.error.FFmpegError):  # a damaged one is the decoder's business
                    data = bytes(packet)
                    if to_start_codes:
                        data = b"".join(bytes(one) for one in to_start_codes.filter(Compressed(data)))
                    self._waiting.append(_Waiting(data, _us(stamp, packet.time_base), packet.is_keyframe))
                if len(self._waiting) > _MOST_WAITING:
                    self._waiting.popleft()
            yield packet

    def decoded(self, frame: av.VideoFrame, /) -> None:
        """As in `Recorder`."""
        if self._size is None and self._codec and not _plays(self._codec, frame):
            self._codec, self._encodes = None, True
            self._waiting.clear()
        self._pts_us = _us(frame.pts, frame.time_base)
        self._size = frame.width, frame.height

    def recorded(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """As in `Recorder`."""
        encoder: Encoder | None = None
        try:
            for frame in frames:
                run = self._connection, frame.timeline.set_us
                if self._codec:
                    self._shown(frame.time_us, run)
                    yield frame
                    continue
                encoder = encoder or Encoder(self._emit)
                picture = cache(frame.bgr)  # converted once for both
                yield replace(frame, bgr=picture)
                encoder.offer(picture, frame.time_us, run)
        finally:
            frames.close()
            if encoder:
                encoder.close()

    def _shown(self, time_us: int, run: tuple[int, int]) -> None:
        """The picture that was decoded last was captured at this time; those before it have been decoded, too.

        Cameras leave out timestamps, such as the first one; then pictures are shown as they come.
        """
        assert self._codec
        assert self._size
        for one in self._waiting:
            if one.time_us is not None:
                continue
            if self._pts_us is None or one.pts_us is None:
                one.time_us = time_us
                if self._pts_us is None:
                    break
            elif one.pts_us <= self._pts_us:
                one.time_us = time_us - (self._pts_us - one.pts_us)
        while self._waiting and (at_us := self._waiting[0].time_us) is not None:
            one = self._waiting.popleft()
            if one.is_key:
                data, parameters = with_parameters(self._codec, one.data, self._head)
                self._emit(Packet(data, at_us, run, Format(self._codec, *self._size, parameters)))
            else:
                self._emit(Packet(one.data, at_us, run))


def _plays(codec: str, frame: av.VideoFrame) -> bool:
    """Whether a browser shows such pictures as they are to be seen."""
    return orientation(frame, None) == UPRIGHT and (codec != "h264" or frame.format.name in _PLAYED)


def _us(stamp: int | None, base: Fraction | None) -> int | None:
    return None if stamp is None or base is None else int(stamp * base * 1_000_000)


def with_parameters(codec: str, data: bytes, head: bytes) -> tuple[bytes, bytes]:
    """A keyframe with its parameter sets, and its sequence parameter set; `head`: the sets, if it brings none."""
    own = _units(codec, data[:_HEAD])
    if not any(kind == _SEQUENCE[codec] for kind, _ in own):
        data = head + data
        own = _units(codec, head)
    return data, b"".join(unit for kind, unit in own if kind == _SEQUENCE[codec])


def _units(codec: str, data: bytes) -> list[tuple[int, bytes]]:
    """The parameter sets in data with start codes, each with its kind."""
    units: Iterable[bytes] = data.split(_START)[1:]
    known = [(unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63, unit.rstrip(b"\0")) for unit in units if unit]
    return [(kind, unit) for kind, unit in known if kind in _SETS[codec]]
