"""What a clip is made of: the compressed pictures of a source. recorder.py gets them, if somebody wants them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from streamer.types import Frame

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet as Compressed
    from av.video.stream import VideoStream


class Format(msgspec.Struct, frozen=True):
    """What packets must share to stand in one clip. `parameters`: the sequence parameter sets, as they are sent."""

    codec: Literal["h264", "hevc"]
    width: int
    height: int
    parameters: bytes


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One picture of H.264 or H.265, with start codes; a keyframe has its parameter sets with it.

    time_us  when it was captured, as its `Frame` says
    run      connection, and by how much the clock had been set: within a run times increase
    form     of a keyframe; None for all others
    left_out pictures before it that the machine was too slow to encode
    """

    data: bytes
    time_us: int
    run: tuple[int, int]
    form: Format | None = None
    left_out: int = 0


class Recorder:
    """Nobody wants the packets: everything passes through."""

    def demuxed(
        self, packets: Iterator[Compressed[VideoStream]], _stream: VideoStream, _container: InputContainer
    ) -> Iterator[Compressed[VideoStream]]:
        """The packets as they are read, before they are decoded."""
        return packets

    def decoded(self, frame: av.VideoFrame, /) -> None:
        """The frame of FFmpeg that the source's next frame is made of."""

    def recorded(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """The source's frames."""
        return frames
