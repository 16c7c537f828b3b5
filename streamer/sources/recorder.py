"""The compressed pictures of a source, for clips: those that the camera sends, or else encoded here, once.

    container ──> demuxed ──> decode ──> decoded ──> the source's own way ──> recorded ──> whoever reads the frames
                     │ packets              │ timestamps                         │ times
                     └──────────────────────┴─────── matched by timestamp ───────┴──> Packet

H.264 and H.265 go as they come, if their container has timestamps and their pictures are upright; other pictures are
encoded (encoder.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import av
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
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_SETS: dict[str, frozenset[int]] = {"h264": frozenset({7, 8}), "hevc": frozenset({32, 33, 34})}  # all parameter sets
_CODECS: dict[str, Literal["h264", "hevc"]] = {"h264": "h264", "hevc": "hevc"}
_SEQUENCE = {"h264": 7, "hevc": 33}


@dataclass(slots=True)
class _Waiting:
    """A packet whose picture has not been shown yet, or one before it."""

    data: bytes
    pts_us: int
    is_key: bool
    time_us: int | None = None


class PacketRecorder(Recorder):
    """The packets of one connection: `emit` gets them in the order of decoding, from the first keyframe on."""

    def __init__(self, emit: Callable[[Packet], None], connection: int) -> None:
        self._emit, self._connection = emit, connection
        self._codec: Literal["h264", "hevc"] | None = None  # of packets that go as they come
        self._head = b""  # parameter sets that the container has, with start codes
        self._waiting: deque[_Waiting] = deque()
        self._pts_us: int | None = None
        self._size = 0, 0

    def demuxed(
        self, packets: Iterator[Compressed[VideoStream]], stream: VideoStream, container: InputContainer
    ) -> Iterator[Compressed[VideoStream]]:
        """As in `Recorder`; called anew when reading begins again behind a damaged place."""
        codec = _CODECS.get(stream.codec_context.name)
        if codec is None or container.format.flags & _NO_TIMESTAMPS:
            return packets
        self._codec = codec
        head = stream.codec_context.extradata or b""
        to_start_codes = None
        if head[:1] == b"\1":  # lengths stand before the units, as in MP4 and Matroska
            to_start_codes = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        else:
            self._head = head
        return self._noted(packets, to_start_codes)

    def _noted(
        self, packets: Iterator[Compressed[VideoStream]], to_start_codes: BitStreamFilterContext | None
    ) -> Iterator[Compressed[VideoStream]]:
        for packet in packets:
            if packet.size and self._codec and packet.time_base:
                stamp = packet.pts if packet.pts is not None else packet.dts
                data: Compressed[VideoStream] = packet
                if to_start_codes:  # it takes what it gets
                    (data,) = to_start_codes.filter(Compressed(bytes(packet))) or (packet,)
                if stamp is not None:
                    pts_us = stamp * packet.time_base.numerator * 1_000_000 // packet.time_base.denominator
                    self._waiting.append(_Waiting(bytes(data), pts_us, packet.is_keyframe))
                if len(self._waiting) > _MOST_WAITING:
                    self._waiting.popleft()
            yield packet

    def decoded(self, frame: av.VideoFrame, /) -> None:
        """As in `Recorder`."""
        if self._pts_us is None and self._codec and orientation(frame, None) != UPRIGHT:
            self._codec = None
            self._waiting.clear()
        base = frame.time_base
        self._pts_us = None if frame.pts is None or base is None else int(frame.pts * base * 1_000_000)
        self._size = frame.width, frame.height

    def recorded(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """As in `Recorder`."""
        encoder: Encoder | None = None
        try:
            for frame in frames:
                run = self._connection, frame.timeline.set_us
                if self._codec:
                    if self._pts_us is not None:
                        self._shown(self._pts_us, frame.time_us, run)
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

    def _shown(self, pts_us: int, time_us: int, run: tuple[int, int]) -> None:
        """The picture with this timestamp was captured at this time; those with earlier ones were decoded before."""
        for one in self._waiting:
            if one.time_us is None and one.pts_us <= pts_us:
                one.time_us = time_us - (pts_us - one.pts_us)
        while self._waiting and self._waiting[0].time_us is not None:
            one = self._waiting.popleft()
            assert self._codec
            assert one.time_us is not None
            if one.is_key:
                data, parameters = with_parameters(self._codec, one.data, self._head)
                self._emit(Packet(data, one.time_us, run, Format(self._codec, *self._size, parameters)))
            else:
                self._emit(Packet(one.data, one.time_us, run))


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
