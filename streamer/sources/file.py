"""Video files: replayed like a camera, or read as fast as the network takes the frames."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.clock import UtcClock
from streamer.sources.hardware import in_software
from streamer.sources.pipe import Pipe
from streamer.sources.sparing import Sparing
from streamer.sources.video import (
    LIMITS,
    Bytes,
    Smaller,
    decode,
    has_decoder,
    open_video,
    picture,
    pts_us,
    video_stream,
)
from streamer.text import printable
from streamer.types import Frame, Timeline

_USUAL_FPS = 30
_RAW_FPS = 25  # what others assume where nothing says it
_MOST_FPS = 1000  # a header that says more is damaged
_LEAP_US = 24 * 3600 * 1_000_000  # longer pauses are none
_PAUSE_US, _LONG_PAUSE_US = 5_000_000, 30_000_000  # longer ones in real time; of a file of few frames
_STEP_US = 1_000_000  # behind a leap the next frame comes within this
_DISORDER_US = 1_000_000  # timestamps that run back by no more than this are in disorder; beyond, they leap
_UNTIMED = frozenset({"h264", "hevc", "vvc", "m4v", "mjpeg", "mpegvideo", "obu", "av1", "cavsvideo", "h261", "h263"})
"""Formats without timestamps: FFmpeg makes them up, at 25 frames a second."""
_PAUSE_S = 0.02  # before a file is played again
_STDIN = Path("/dev/stdin")
_FORMATS = "use a video file such as .mp4, .mkv or .avi"

log = logging.getLogger(__name__)


class FileSource(Source):
    """A video file, by its path or as file:PATH or file:///PATH; a pipe, by its path or as - (standard input).

    The best video stream, if it has several.

    Pace `realtime`: frames come when a camera would give them, and are stamped from now on in UTC. Pace `fast`: every
    frame in order at once, stamped in microseconds from the first frame on, so that reading a file twice gives the
    same numbers.
    """

    live = False

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        uri = config.uri if config.uri != "-" else str(_STDIN)
        self.uri = printable(config.uri)  # a name, which may look like an address with a password
        self.path = self._path = Path(
            unquote(urlsplit(uri).path) if uri.startswith("file://") else uri.removeprefix("file:")
        )
        if self._is_pipe() and config.loop:
            raise SourceError(f"{self.uri}: a pipe cannot be played again; leave out loop")

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        index = piece = 0
        for frame in self._play(connection, stop):
            yield frame
            index, piece = frame.index + 1, frame.timeline.piece + 1
        while self.config.loop and not stop.wait(_PAUSE_S):
            first, leaps = index, piece
            for frame in self._play(connection, stop):
                timeline = frame.timeline._replace(piece=leaps + frame.timeline.piece)
                yield replace(frame, index=first + frame.index, timeline=timeline)
                index, piece = first + frame.index + 1, timeline.piece + 1

    def _play(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """The file, once."""
        with ExitStack() as closing:
            # "file:" keeps FFmpeg from taking a name with a colon for the address of something else
            readable: str | Bytes = f"file:{self._path}"
            if self._is_pipe():
                readable = closing.enter_context(contextlib.closing(self._pipe(stop)))
            try:
                with open_video(readable, LIMITS, hwaccel=self.config.hwaccel) as container:
                    yield from self._read(container, self._checked(container), connection, stop)
            except av.error.InvalidDataError as error:
                if stop.is_set():  # a pipe that nobody has written to
                    return
                raise self._unreadable("this is not a video, or it is damaged or cut off", _FORMATS) from error
            except av.error.FFmpegError as error:
                raise SourceError(f"{self.uri}: cannot be read ({error.strerror}); {_FORMATS}") from error

    def _pipe(self, stop: threading.Event) -> Pipe:
        try:
            return Pipe(None if self._path == _STDIN else self._path, stop)
        except OSError as error:
            raise SourceError(f"{self.uri}: cannot be opened ({error.strerror}); is something piped in?") from error

    def _unreadable(self, what: str, advice: str) -> SourceError:
        """What is wrong with a file, unless it is sound and of a kind that cannot be read here."""
        head = b""
        if self._path.is_file():
            with contextlib.suppress(OSError), self._path.open("rb") as file:
                head = file.read(64)
        else:
            advice += "; a pipe cannot be rewound, send .ts or .mkv through it"
        if head[8:12] == b"WEBP" and b"ANIM" in head:
            what = "animated WebP is not read here"
            advice = "convert it to a GIF, an APNG or a video, such as: magick FILE OUT.gif"
        return SourceError(f"{self.uri}: {what}; {advice}")

    def _is_pipe(self) -> bool:
        """Whether it is a pipe. The plain reasons why nothing can be read, told before FFmpeg tells them worse."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise SourceError(f"{self.uri}: {error.strerror}; check the path") from error
        if stat.S_ISFIFO(status.st_mode) or (self._path == _STDIN and stat.S_ISSOCK(status.st_mode)):
            return True
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{self.uri}: this is a directory; give one video file")
        if not stat.S_ISREG(status.st_mode):
            what = "nothing is piped in" if self._path == _STDIN else "this is neither a file nor a pipe"
            raise SourceError(f"{self.uri}: {what}; give a video file, or pipe a video in")
        if status.st_size == 0:
            raise SourceError(f"{self.uri}: this file is empty; copy or record it again")
        if not os.access(self._path, os.R_OK):
            raise SourceError(f"{self.uri}: permission denied; let your user read the file (chmod +r)")
        return False

    def _checked(self, container: InputContainer) -> VideoStream:
        """The container's video stream, if it can be decoded."""
        if container.format.name == "tty":  # FFmpeg draws texts as pictures
            raise SourceError(f"{self.uri}: this is a text, not a video; {_FORMATS}")
        stream = video_stream(container)
        if stream is None:
            raise SourceError(f"{self.uri}: this file has no video in it, only sound or other data; {_FORMATS}")
        if not has_decoder(stream):
            raise SourceError(
                f"{self.uri}: no decoder for its video; convert it to H.264 (ffmpeg -i FILE -c:v libx264 OUT.mp4)"
            )
        return stream

    def _read(
        self, container: InputContainer, stream: VideoStream, connection: int, stop: threading.Event
    ) -> Generator[Frame, None, None]:
        realtime = self.config.pace == "realtime"
        timed = _UNTIMED.isdisjoint(container.format.name.split(","))
        rate = stream.average_rate if timed else self._guessed_rate(stream)
        timeline = _Timeline(round(1_000_000 / (rate or _USUAL_FPS)), patient=not realtime)
        utc, began_us, smaller = UtcClock(), time.monotonic_ns() // 1000, Smaller()
        base = stream.time_base if timed else None
        index = -1
        sparing = Sparing(self, stream, base if realtime else None)
        decoded = decode(container, stream, self.damaged, stop, recorder=self.recorder, due=sparing.due)
        for index, (frame, packet) in enumerate(decoded):
            if index == 0 and (note := in_software(self.config.hwaccel, stream)):
                self.say(note)
            at_us, due = timeline.place_us(pts_us(frame, base)), None
            if realtime:
                due = (began_us + at_us) / 1e6
                if stop.wait(due - time.monotonic()):
                    return
                at_us = utc.utc_us(began_us + at_us)
            show, shrink = partial(picture, frame, self.uri, packet), partial(smaller.small, frame, packet)
            told_by, left_out = Timeline(timeline.piece, utc.set_us if realtime else 0), sparing.count()
            yield Frame(at_us, index, connection, show, due, told_by, small=shrink, left_out=left_out)
        if index < 0 and not stop.is_set():
            advice = "it is damaged or cut off, copy it again; or larger than 8192x4320, scale it"
            raise self._unreadable("not one frame could be decoded", advice)

    def _guessed_rate(self, stream: VideoStream) -> Fraction | float:
        """The frame rate of a file without timestamps, frames a second; told in the log."""
        rate: Fraction | float | None = stream.codec_context.framerate
        who = "as its headers say"
        if self.config.fps:
            rate, who = self.config.fps, "as `fps` of this source says"
        elif not rate or not 1 <= rate <= _MOST_FPS:
            rate, who = _RAW_FPS, "a guess; set `fps` of this source if it is another"
        text = f"{self.uri}: has no timestamps; its times are counted at {float(rate):.4g} frames a second, {who}"
        log.warning(text, extra={"stream": self.name})
        return rate


class _Timeline:
    """Places frames in microseconds from the first one, always later than the one before.

    A timestamp that is missing, runs backwards or leaps by more than a day continues evenly. Damaged files have
    periods that are no better.

    patient  believe every pause up to a day; otherwise the file plays in real time, and nobody waits for an hour
    piece    how often timestamps have leapt, back or ahead: two recordings were joined, or time was cut out
    """

    def __init__(self, period_us: int, *, patient: bool = True) -> None:
        self._period_us = period_us if 0 < period_us <= _LEAP_US else 1_000_000 // _USUAL_FPS
        self._most_us = _LEAP_US if patient else min(max(_PAUSE_US, 2 * self._period_us), _LONG_PAUSE_US)
        self.piece = 0
        self._shift = 0
        self._last: int | None = None

    def place_us(self, pts: int | None) -> int:
        """The place of the next frame, whose own timestamp is `pts` microseconds."""
        if self._last is None:
            self._shift = -(pts or 0)
            self._last = 0
        elif pts is None:
            self._last += self._period_us
        else:
            distance_us = pts + self._shift - self._last
            if not 0 < distance_us <= self._most_us:
                leaps = not -_DISORDER_US <= distance_us <= 0
                self.piece += leaps
                self._shift = self._last + (min(self._period_us, _STEP_US) if leaps else self._period_us) - pts
            self._last = pts + self._shift
        return self._last
