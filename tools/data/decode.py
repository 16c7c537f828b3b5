"""Pictures of a labelled video: a file of any format that FFmpeg reads, or a folder of numbered frames.

Only the wanted pictures are converted and kept, and they are made small at once, so that a long video in a high
resolution takes little memory. A damaged video is used with the frames that can be decoded, in time order.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engines.opencv import cv2
from streamer.sources.video import bgr, decode, has_decoder, open_video, video_stream
from streamer.types import Image
from tools.data.datasets import Video

Indices = NDArray[np.int64]
Choose = Callable[[int, float | None], Indices]
"""(number of frames, frames per second or None) -> the numbers of the wanted frames, from 0, in any shape."""
Shrink = Callable[[Image], Image]
"""A picture [H, W, 3] -> the same one in the size to keep."""

MOST_BYTES = 2**30
"""What a worker may hold of one video."""
_ROUNDED = 0.05  # share of a rate by which timestamps in milliseconds make it another
_WHOLE = 0.8  # share of the frames that its header promises, from which on a video counts as whole


class UnreadableError(Exception):
    """A video without usable pictures; the message names it and says why."""


def read_pictures(video: Video, choose: Choose, shrink: Shrink) -> tuple[Image, str]:
    """The wanted pictures, [*indices, H, W, 3] uint8 RGB; and what is damaged about the video, or "".

    `choose` is asked again, with the lower number of frames, where a file has fewer than it said.

    Raises UnreadableError.
    """
    try:
        if video.frames is not None or video.path.is_dir():
            return _read_folder(video, choose, shrink), ""
        return _read_file(video.path, choose, shrink)
    except av.error.InvalidDataError as error:
        raise UnreadableError(f"{video.path}: this is not a video, or it is damaged or cut off") from error
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableError(f"{video.path}: {error.strerror or error}") from error


class _Wanted:
    """Collects the wanted pictures of one video."""

    def __init__(self, path: Path, indices: Indices, shrink: Shrink) -> None:
        self._path, self._indices, self._shrink = path, indices, shrink
        self.numbers = set(indices.ravel().tolist())
        self._pictures: dict[int, Image] = {}

    def add(self, number: int, picture: Image) -> None:
        """Keep a picture [H, W, 3] BGR that is wanted."""
        kept = np.asarray(cv2.cvtColor(self._shrink(picture), cv2.COLOR_BGR2RGB), np.uint8)
        first = next(iter(self._pictures.values()), kept)
        if kept.shape != first.shape:
            raise UnreadableError(f"{self._path}: its pictures change their size; convert it again")
        if kept.nbytes * self._indices.size > MOST_BYTES:
            size = f"{kept.shape[1]}x{kept.shape[0]}"
            raise UnreadableError(
                f"{self._path}: {self._indices.size} pictures of {size} are too many; cut it into shorter clips"
            )
        self._pictures[number] = kept

    @property
    def complete(self) -> bool:
        """Whether all wanted pictures are there."""
        return len(self._pictures) == len(self.numbers)

    def rgb(self) -> Image:
        """All of them, [*indices, H, W, 3]."""
        numbers = np.array(sorted(self.numbers))
        pictures = np.stack([self._pictures[number] for number in numbers.tolist()])
        return pictures[np.searchsorted(numbers, self._indices)]


def _read_folder(video: Video, choose: Choose, shrink: Shrink) -> Image:
    count = video.frames if video.frames is not None else _count_frames(video)
    if count < 1:
        raise UnreadableError(f"{video.path}: no frames named like {video.pattern.format(1)} in this folder")
    wanted = _Wanted(video.path, choose(count, video.fps), shrink)
    for number in sorted(wanted.numbers):
        path = video.path / video.pattern.format(number + 1)
        content = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        if picture is None:
            raise UnreadableError(f"{path}: this frame is missing, damaged or cut off")
        wanted.add(number, np.asarray(picture, np.uint8))
    return wanted.rgb()


def _count_frames(video: Video) -> int:
    """Files of the folder that have a frame's name."""
    before, _, after = re.split(r"(\{.*\})", video.pattern)
    name = re.compile(rf"{re.escape(before)}\d+{re.escape(after)}")
    return sum(name.fullmatch(entry) is not None for entry in os.listdir(video.path))  # noqa: PTH208


def _read_file(path: Path, choose: Choose, shrink: Shrink) -> tuple[Image, str]:
    count, fps, damage = _count_packets(path)
    for _ in range(2):  # the second time with the frames that could be decoded
        if count < 1:
            break
        wanted = _Wanted(path, choose(count, fps), shrink)
        count, failures = _decode(path, wanted)
        if failures:
            damage = f"{path}: {failures} damaged or missing frames"
        if wanted.complete:
            return wanted.rgb(), damage
    raise UnreadableError(f"{path}: not one frame can be decoded")


def _open(path: Path) -> InputContainer:
    """The prefix keeps FFmpeg from taking a name with a colon for the address of something else."""
    return open_video(f"file:{path}")


def _stream(path: Path, container: InputContainer) -> VideoStream:
    stream = video_stream(container)
    if stream is None:
        raise UnreadableError(f"{path}: this file has no video in it")
    if not has_decoder(stream):
        raise UnreadableError(f"{path}: there is no decoder for its video; convert it to H.264")
    return stream


def shortfall(path: Path) -> str:
    """What a file lacks of what its header promises, or ""."""
    return _count_packets(path)[2]


def _count_packets(path: Path) -> tuple[int, float, str]:
    """The number of frames, their mean rate, and what is damaged. Headers are not to be trusted: WebM has no number,
    and a rate need not be that of the timestamps.
    """
    count, times = 0, list[int]()
    with _open(path) as container:
        stream = _stream(path, container)
        promised, promised_s = stream.frames, (container.duration or 0) / 1_000_000
        try:
            for packet in container.demux(stream):
                count += packet.size > 0 and not packet.is_discard
                if packet.pts is not None:
                    times.append(packet.pts)
        except av.error.FFmpegError:
            promised_s = math.inf  # what was read before the damage counts
        span_s = float((max(times) - min(times)) * (stream.time_base or 0)) if times else 0.0
        fps = float(stream.average_rate or 30)
    if span_s > 0 and abs((count - 1) / span_s / fps - 1) > _ROUNDED:
        fps = (count - 1) / span_s
    short = count < _WHOLE * promised or count / fps < _WHOLE * promised_s
    return count, fps, f"{path}: cut off or damaged after {count} frames" if short else ""


def _decode(path: Path, wanted: _Wanted) -> tuple[int, int]:
    """Decode up to the last wanted picture; how many frames came, and how many were damaged."""
    failures = frames = 0

    def damaged() -> None:
        nonlocal failures
        failures += 1

    with _open(path) as container:
        for number, (frame, packet) in enumerate(
            decode(container, _stream(path, container), damaged, threading.Event())
        ):
            frames = number + 1
            if number in wanted.numbers:
                wanted.add(number, bgr(frame, packet))
                if wanted.complete:
                    break
    return frames, failures
