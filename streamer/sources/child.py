"""The capture process: it reads one source for a `ProcessSource`, frame by frame, as it is told to.

    python -m streamer.sources.child SOCKET MEMORY RATE CLIPS    # two descriptors, frames a second that are wanted,
                                                                 # 1 if the compressed pictures are wanted, too

The configuration comes over the socket; then

    it is told        it answers, perhaps after some `Noted` and `Part`
    the number of     connects, and goes to the first frame: `Got`, or `Ended` or `Failed`, after which it waits for the
    a connection      number of another connection
    NEXT              goes to the next frame: as above
    PICTURE           converts the frame that it is at, into the shared memory: `Drawn`

So it does nothing ahead, and converts what is wanted. When the other end closes the socket, or is gone, it ends: at
once, or after `GRACE_S` if a library does not come back.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from contextlib import closing

import msgspec
import numpy as np

from streamer.config import SourceConfig
from streamer.errors import Retry, SourceError
from streamer.sources import Source, open_source
from streamer.sources.packets import Packet
from streamer.sources.video import MOST_PIXELS
from streamer.types import Frame, Timeline

NEXT, PICTURE = b"next", b"picture"
ROOM = 3 * MOST_PIXELS
"""Bytes of shared memory: the largest picture that is decoded. What is not used takes no memory."""
GRACE_S = 2.0
LONGEST = 1 << 16  # bytes of a message
_PART = LONGEST - 1024


class Got(msgspec.Struct, frozen=True, tag=True):
    """The next frame; its fields, and how many were damaged so far. The monotonic clock is the machine's."""

    time_us: int
    index: int
    arrived_s: float | None
    timeline: Timeline
    key: bool
    left_out: int
    corrupt: int


class Drawn(msgspec.Struct, frozen=True, tag=True):
    """The picture [height, width, 3] is at the beginning of the shared memory."""

    height: int
    width: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The source ended, as a file does."""

    corrupt: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A SourceError."""

    text: str
    retry: Retry
    corrupt: int


class Noted(msgspec.Struct, frozen=True, tag=True):
    """What the source says of itself, while it looks for the next frame; another answer follows."""

    note: str


class Part(msgspec.Struct, frozen=True, tag=True):
    """A piece of a compressed picture, which is whole with the `last` one; another answer follows."""

    data: bytes
    last: bool


Answer = Got | Drawn | Ended | Failed | Noted | Part


def serve(
    source: Source, link: socket.socket, memory: mmap.mmap, stop: threading.Event, *, records: bool = False
) -> None:
    """Obey until the other end is gone. records: give the compressed pictures, too."""
    packets: deque[Packet] = deque()
    source.on_note = lambda note: _send(link, Noted(note))
    source.on_packet = packets.append if records else None
    while told := link.recv(LONGEST):
        answer: Answer
        try:
            with closing(source.recorded(int(told), stop)) as frames:
                for frame in frames:
                    _send_packets(link, packets)
                    _send(link, _got(frame, source))
                    while (told := link.recv(LONGEST)) == PICTURE:
                        _send(link, _draw(frame, memory))
                    if told != NEXT:
                        return
            answer = Ended(source.corrupt)
        except SourceError as error:
            answer = Failed(str(error)[: LONGEST // 8], error.retry, source.corrupt)
        _send_packets(link, packets)
        _send(link, answer)


def _send_packets(link: socket.socket, packets: deque[Packet]) -> None:
    while packets:
        data = msgspec.msgpack.encode(packets.popleft())
        for at in range(0, len(data), _PART):
            _send(link, Part(data[at : at + _PART], at + _PART >= len(data)))


def _got(frame: Frame, source: Source) -> Got:
    return Got(frame.time_us, frame.index, frame.arrived_s, frame.timeline, frame.key, frame.left_out, source.corrupt)


def _draw(frame: Frame, memory: mmap.mmap) -> Drawn:
    image = frame.bgr()
    if image.nbytes > ROOM:
        raise SourceError(f"pictures of {image.shape[1]}x{image.shape[0]} are too large; make them 8192x4320 at most")
    np.copyto(np.frombuffer(memory, np.uint8, image.size).reshape(image.shape), image)
    return Drawn(*image.shape[:2])


def _send(link: socket.socket, answer: Answer) -> None:
    link.send(msgspec.msgpack.encode(answer))


def _end_with(link: socket.socket, stop: threading.Event) -> None:
    """Wait until the other end is gone, then end this process."""
    poller = select.poll()
    poller.register(link, 0)  # reports that it is closed, and nothing else
    poller.poll()
    stop.set()
    time.sleep(GRACE_S)
    os._exit(0)


def main() -> None:
    """Serve the source whose configuration comes first."""
    faulthandler.enable(all_threads=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the recognition, which then ends this process
    link, stop = socket.socket(fileno=int(sys.argv[1])), threading.Event()
    threading.Thread(target=_end_with, args=(link, stop), daemon=True).start()
    try:
        source = open_source(SourceConfig.model_validate_json(link.recv(LONGEST)))
        source.rate_hz = float(sys.argv[3]) or None
        serve(source, link, mmap.mmap(int(sys.argv[2]), ROOM), stop, records=sys.argv[4] == "1")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the other end is gone
    os._exit(0)  # at once, without taking all libraries down in order: somebody waits


if __name__ == "__main__":
    main()
