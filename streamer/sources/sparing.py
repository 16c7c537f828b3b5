"""Pictures that need not be decoded, since the network takes fewer and no other picture is made from them.

A picture of H.264 or H.265 says whether others are made from it: none are from most B-frames, nor from the upper layer
that some cameras send. These are left out while the others come often enough by themselves; and all but keyframes are,
while keyframes do. Often enough is 1.5 times the network's rate: the network then sees what it would of a camera that
gives so few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from av.packet import Packet
from av.video.stream import VideoStream

from streamer.sources.base import Source
from streamer.sources.video import pts_us

_ENOUGH = 1.5
_JITTER = 1.05  # distances may be longer by this
_LONGEST_US = 800_000  # without a picture, or the camera would be thought to be silent
_LOOK_US = 3_000_000  # so much of a stream is looked at before anything is left out, and again and again
_COMPLETE_US = 500_000  # behind the newest: by then all pictures before have come, in whatever order
_MOST = 1000  # packets in that time; more are no video
_HEAD = 1 << 12  # bytes of a packet in which its first slice begins
_CODECS = frozenset({"h264", "hevc"})
_NOBODY, _SOME, _KEY = range(3)  # who needs a picture: no other one, others, and it needs no other itself


class Sparing:
    """Tells which packets of one connection to decode, as they come, in the order of decoding.

    All of them until it is known what the stream is like, as soon as that changes, and where clips are kept, which need
    the time of each. What was left out between keyframes is decoded after all where the next one does not come in time.
    """

    def __init__(self, source: Source, stream: VideoStream, base: Fraction | None) -> None:
        """base: the unit of timestamps; None: they say nothing."""
        self._source, self._context = source, stream.codec_context
        self._codec = self._context.name
        self._base = None if source.on_packet or self._codec not in _CODECS else base
        head, at = self._context.extradata or b"", 4 if self._codec == "h264" else 21
        self._length = (head[at] & 3) + 1 if head[:1] == b"\1" and len(head) > at else 0  # bytes before each unit
        self._rate_hz: float | None = None
        self._layer = 0  # the highest
        self._left_out = 0
        self._passed: list[Packet[VideoStream]] = []  # since the last keyframe, while only those are decoded
        self._begin(0)

    def _begin(self, now_us: int) -> list[Packet[VideoStream]]:
        """Decode everything from now on; the packets that are wanted after all."""
        wanted, self._passed = self._passed, []
        self._left_out -= len(wanted)
        self._least = _NOBODY  # what is decoded
        self._seen: list[tuple[int, int]] = []  # times and kinds
        self._newest_us = self._kept_us = now_us
        return wanted

    def due(self, packet: Packet[VideoStream]) -> Sequence[Packet[VideoStream]]:
        """What to decode now that this packet has come."""
        rate_hz, at_us = self._source.rate_hz, pts_us(packet, self._base)
        if not rate_hz or at_us is None or not packet.size:
            return [*self._begin(0), packet]
        longest_us = min(_LONGEST_US, 1e6 * _JITTER / (_ENOUGH * rate_hz))
        kind = self._kind(packet)
        steady = rate_hz == self._rate_hz and abs(at_us - self._newest_us) < _LOOK_US and len(self._seen) < _MOST
        self._newest_us, self._rate_hz = max(self._newest_us, at_us), rate_hz
        wanted: list[Packet[VideoStream]] = []
        if not steady or (kind < self._least and self._newest_us - self._kept_us > longest_us):
            wanted = self._begin(at_us)
        self._seen.append((at_us, kind))
        if self._newest_us - self._seen[0][0] >= _LOOK_US:
            least = self._judged(self._newest_us - _COMPLETE_US, longest_us)
            recent = [seen for seen in self._seen if seen[0] > self._newest_us - _COMPLETE_US]
            wanted += self._begin(self._newest_us) if least < self._least else []
            self._least, self._seen = least, recent
        if kind >= self._least:
            self._passed, self._kept_us = [], max(self._kept_us, at_us)
            return [*wanted, packet]
        self._left_out += 1
        if self._least == _KEY:
            self._passed.append(packet)
        return wanted

    def count(self) -> int:
        """Pictures that were left out since this was asked last."""
        count, self._left_out = max(0, self._left_out), min(0, self._left_out)
        return count

    def _judged(self, last_us: int, longest_us: float) -> int:
        """The kind that suffices alone, by what was seen until then."""
        first_us = next((time_us for time_us, kind in self._seen if kind > _NOBODY), 0)  # from there on
        for least in (_KEY, _SOME):
            if least == _KEY and self._context.has_b_frames:
                continue  # the decoder would hold each back until others have come
            times_us = sorted(time_us for time_us, kind in self._seen if kind >= least and time_us < last_us)
            if all(after - before <= longest_us for before, after in pairwise([first_us, *times_us, last_us])):
                return least
        return _NOBODY

    def _kind(self, packet: Packet[VideoStream]) -> int:
        """Who needs the picture. One that does not tell is needed."""
        for unit in self._units(bytes(memoryview(packet)[:_HEAD])):
            kind = self._h264(unit) if self._codec == "h264" else self._hevc(unit)
            if kind is not None:
                return kind
        return _SOME

    @staticmethod
    def _h264(unit: bytes) -> int | None:
        """By nal_unit_type and nal_ref_idc of the first slice; None: it is none."""
        kind = unit[0] & 31
        if kind not in (1, 2, 5):
            return None
        return _KEY if kind == 5 else _SOME if unit[0] & 0x60 else _NOBODY

    def _hevc(self, unit: bytes) -> int | None:
        """By nal_unit_type and the layer."""
        kind, layer = unit[0] >> 1 & 63, unit[1] & 7
        if kind > 31:
            return None
        if layer > self._layer:  # it may be made from those that nothing in their own layer is made from
            self._layer, self._rate_hz = layer, None
        return _KEY if kind > 15 else _NOBODY if kind % 2 == 0 and layer == self._layer else _SOME

    def _units(self, data: bytes) -> Iterator[bytes]:
        """The units of a packet's beginning, each with two bytes at least; the last may be cut off."""
        if not self._length:
            yield from (unit for unit in data.split(b"\0\0\1")[1:] if len(unit) > 1)
            return
        at = 0
        while at + self._length + 1 < len(data):
            begin = at + self._length
            yield data[begin : begin + 2]
            at = begin + int.from_bytes(data[at:begin], "big")
