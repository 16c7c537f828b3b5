"""The packets of a source's last seconds, and the clips that are being taken from them. In memory, within bounds.

Packets are kept from a keyframe to the next: nothing can be shown without the keyframe before it. So what is kept is
`keep_s`, and the rest of the group of pictures that these seconds begin in. More than `most_bytes`, or a group longer
than `LONGEST_GROUP_S`, is not kept: then a clip begins later than it should.
"""

from __future__ import annotations

import threading
from collections import deque

from streamer.sources.packets import Format, Packet

LONGEST_GROUP_S = 60
_FOR_EVER_US = 2**62


class Take:
    """An open clip: packets from a keyframe on, at most until `until_us` and `most_bytes`.

    closed  nothing more will come
    """

    def __init__(self, packets: list[Packet], limit_us: int, most_bytes: int) -> None:
        self.packets = packets
        self.bytes = sum(len(packet.data) for packet in packets)
        self.until_us = self._limit_us = limit_us
        self.closed = False
        self._most_bytes = most_bytes

    def end(self, until_us: int) -> None:
        """Go on until then, if the limits allow; it may be in the past."""
        self.until_us = min(until_us, self._limit_us)
        while len(self.packets) > 1 and self.packets[-1].time_us > self.until_us:
            self.bytes -= len(self.packets.pop().data)
            self.closed = True

    def add(self, packet: Packet) -> None:
        """Take the next packet, if it belongs to the clip."""
        if self.closed or (not self.packets and packet.form is None):
            return
        if packet.time_us > self.until_us or self.bytes + len(packet.data) > self._most_bytes:
            self.closed = True
            return
        self.packets.append(packet)
        self.bytes += len(packet.data)

    @property
    def start_us(self) -> int | None:
        """When its first picture was captured; None while it has none."""
        return self.packets[0].time_us if self.packets else None


class Preroll:
    """The last seconds of one source. `put` is for its capture thread, `begin` and `end` for others.

    bytes     that are kept, without those that only takes hold
    left_out  pictures that the machine was too slow to encode
    """

    def __init__(self, keep_s: float, most_bytes: int) -> None:
        self._keep_us, self._most_bytes = round(keep_s * 1e6), most_bytes
        self._lock = threading.Lock()
        self._groups: deque[list[Packet]] = deque()  # each begins with its keyframe
        self.bytes = self.left_out = 0
        self._form: Format | None = None
        self._run: tuple[int, int] | None = None
        self._newest_us = -_FOR_EVER_US
        self._takes: list[Take] = []

    def put(self, packet: Packet) -> None:
        """Keep the next packet, in the order of decoding."""
        with self._lock:
            self.left_out += packet.left_out
            if packet.form is not None:
                if self._form and not self._follows(packet):
                    self._forget()
                    self._close_takes()
                    self._newest_us = -_FOR_EVER_US
                self._form, self._run = packet.form, packet.run
                self._groups.append([])
            elif packet.run != self._run or not self._groups:
                return  # its keyframe is missing
            self._groups[-1].append(packet)
            self.bytes += len(packet.data)
            self._newest_us = max(self._newest_us, packet.time_us)
            for take in self._takes:
                take.add(packet)
            self._trim()

    def begin(self, from_us: int, most_us: int) -> Take:
        """A clip from the keyframe before this time on, for at most `most_us` from then on; end it with `end`."""
        with self._lock:
            begun = sum(group[0].time_us <= from_us for group in self._groups)
            packets = [packet for group in list(self._groups)[max(0, begun - 1) :] for packet in group]
            take = Take(packets, from_us + most_us, self._most_bytes)
            self._takes.append(take)
            return take

    def end(self, take: Take, until_us: int) -> None:
        """The clip ends then."""
        with self._lock:
            take.end(until_us)
            self._takes = [one for one in self._takes if not one.closed]

    def drop(self, take: Take) -> None:
        """Nobody wants the clip any more, or more of it."""
        with self._lock:
            take.closed = True
            self._takes = [one for one in self._takes if not one.closed]

    def _follows(self, packet: Packet) -> bool:
        """Whether a keyframe can stand in one clip with what came before it."""
        later_us = packet.time_us - self._newest_us
        return (
            packet.form == self._form
            and later_us <= LONGEST_GROUP_S * 1e6
            and (packet.run == self._run or later_us > 0)
        )

    def _trim(self) -> None:
        oldest_us = self._newest_us - self._keep_us
        while len(self._groups) > 1 and (self._groups[1][0].time_us <= oldest_us or self.bytes > self._most_bytes):
            self.bytes -= sum(len(packet.data) for packet in self._groups.popleft())
        length_us = self._newest_us - self._groups[0][0].time_us
        if self.bytes > self._most_bytes or length_us > self._keep_us + LONGEST_GROUP_S * 1e6:
            self._forget()

    def _forget(self) -> None:
        self._groups.clear()
        self.bytes = 0

    def _close_takes(self) -> None:
        for take in self._takes:
            take.closed = True
        self._takes.clear()
