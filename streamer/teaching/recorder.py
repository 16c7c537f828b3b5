"""Clips of one label, cut out of a camera's frames between countdowns.

The clips are H.264, named OUT/LABEL/LABEL-0001.mp4 and numbered after those that are there; each frame keeps the time
at which it was captured. A clip comes to its folder when it is whole: whatever ends the program, there is no half clip
among them. A program that is killed may leave a hidden file OUT/.LABEL-*.part, which nothing reads.

A camera is recorded as time goes by. A file is cut as fast as it can be read, by its own time.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.video.stream import VideoStream
from pydantic import ValidationError

from streamer.config import SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.sources import Source, open_source
from streamer.sources.reader import Reader
from streamer.teaching.telling import View
from streamer.types import Frame, Image

_LEAST_SHARE = 0.8  # of its time that a clip must show
_HOLE_US = 500_000  # without a frame for longer than this, a clip shows nothing
_H264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
_WATCH_S = 0.05  # how often the source is looked at; a camera that is lost is tried again after 0.125 s at the earliest
_JOIN_S = 2.0  # how long the end waits for the reading thread


def check_label(label: str) -> None:
    """ConfigError if the label cannot be the name of a folder and its clips."""
    fits = 1 <= len(label) <= 50 and label.isprintable() and label == label.strip()
    if not fits or label.startswith(".") or "/" in label or "\\" in label:
        raise ConfigError(
            f"the label {label!r}: it names a folder, too: give 1 to 50 printable characters without / and \\, "
            "no dot at the beginning and no space at either end"
        )


def keep(part: Path, folder: Path, label: str) -> Path:
    """Move a whole clip into its folder, as the clip after the last one there; its path. It never overwrites."""
    folder.mkdir(exist_ok=True)
    form = re.compile(rf"{re.escape(label)}-([0-9]+)\.mp4", re.IGNORECASE)
    numbers = [int(match[1]) for entry in folder.iterdir() if (match := form.fullmatch(entry.name))]
    for number in itertools.count(max(numbers, default=0) + 1):
        path = folder / f"{label}-{number:04}.mp4"
        try:
            os.link(part, path)  # fails, where a rename overwrites, if another recording has just taken this number
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            part.rename(path)
        else:
            part.unlink()
        break
    return path


@contextmanager
def writing_clips(out: Path) -> Iterator[None]:
    """What goes wrong on the disk becomes a ConfigError."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        advice = "free some space, check its rights, or give another --out"
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); {advice}") from error


class _Clip:
    """A clip on its way into a file.

    end_us    the capture time that it does not reach
    shown_us  how much of its time it shows, holes left out
    """

    def __init__(self, path: Path, size: tuple[int, int], start_us: int, length_us: int) -> None:
        self._start_us = self._last_us = start_us
        self.end_us = start_us + length_us
        self.shown_us = 0
        self.frames = 0
        self._container = av.open(f"file:{path}", "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=30, options=_H264)  # the rate is a hint for x264
        assert isinstance(self._stream, VideoStream)
        self._stream.width, self._stream.height = (side // 2 * 2 for side in size)  # H.264 wants even sides
        self._stream.codec_context.time_base = Fraction(1, 1_000_000)

    def reach(self, time_us: int) -> None:
        """The next frame is of this time."""
        if time_us - self._last_us <= _HOLE_US:
            self.shown_us += min(time_us, self.end_us) - self._last_us
        self._last_us = time_us

    def add(self, time_us: int, picture: Image) -> None:
        """Encode a frame."""
        self.reach(time_us)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts, frame.time_base = time_us - self._start_us, Fraction(1, 1_000_000)
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Complete the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """Close the file as it is."""
        with suppress(OSError, av.error.FFmpegError):
            self._container.close()


@dataclass(frozen=True)
class Plan:
    """What to record: `clips` times a countdown, a clip and a pause, in seconds."""

    clips: int
    clip_s: float
    countdown_s: float
    pause_s: float


class Recorder:
    """Cuts clips of one label out of the frames of a source, by the times at which these were captured.

    To be called with every frame; at the end `finish` or `discard` must be called. Sets `stop` after the last clip.

    kept, dropped  clips so far
    part           the file of the clip under way
    """

    def __init__(self, out: Path, label: str, plan: Plan, view: View, stop: threading.Event) -> None:
        check_label(label)
        self._out, self._label, self._plan = out, label, plan
        self._view, self._stop = view, stop
        self.part = out / f".{label}-{os.getpid()}.part"
        self.kept = self.dropped = 0
        self._clip: _Clip | None = None
        self._begin_us: int | None = None  # of the next clip

    def __call__(self, frame: Frame) -> None:
        """Take the next frame. ConfigError if a clip cannot be written."""
        if self._stop.is_set() or frame.connection > 0:
            return  # a clip is of one connection; `record` ends at the next one
        countdown_us = _us(self._plan.countdown_s)
        now_us = frame.time_us - frame.timeline.set_us  # whoever sets the clock does not cut the clip
        if self._begin_us is None:
            self._begin_us = now_us + countdown_us
        if self._clip and now_us >= self._clip.end_us:
            self._clip.reach(now_us)
            self.finish()
            self._begin_us = now_us + _us(self._plan.pause_s) + countdown_us
            if self._stop.is_set():
                return
        name = f"{self._label}, clip {self.kept + self.dropped + 1} of {self._plan.clips}"
        if not self._clip and now_us < self._begin_us:
            left_us = self._begin_us - now_us
            phase = "pause" if left_us > countdown_us else f"get ready, {_seconds(left_us)}"
            self._view.show(f"{name}: {phase}", "yellow")
            return
        picture = frame.bgr()
        with writing_clips(self._out):
            if not self._clip:
                height, width = picture.shape[:2]
                self._clip = _Clip(self.part, (width, height), now_us, _us(self._plan.clip_s))
            self._clip.add(now_us, picture)
        self._view.show(f"{name}: recording, {_seconds(self._clip.end_us - now_us)} s left", "bold red")

    def finish(self) -> None:
        """End the clip under way, if there is one, and keep it unless it shows too little."""
        clip = self._clip
        if clip is None:
            return
        if clip.shown_us < _LEAST_SHARE * _us(self._plan.clip_s):
            self.discard()
            self.dropped += 1
            told = f"the source gave {clip.shown_us / 1e6:.1f} s of {self._plan.clip_s:g} s"
            self._view.say(f"clip {self.kept + self.dropped} of {self._plan.clips} dropped: {told}")
        else:
            with writing_clips(self._out):
                clip.close()
                path = keep(self.part, self._out / self._label, self._label)
            self._clip = None
            self.kept += 1
            self._view.say(f"{path}: {clip.frames} frames, {clip.shown_us / 1e6:.1f} s")
        if self.kept + self.dropped == self._plan.clips:
            self._stop.set()

    def discard(self) -> None:
        """Forget the clip under way, if there is one."""
        if self._clip:
            self._clip.abort()
        self._clip = None
        self.part.unlink(missing_ok=True)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _seconds(us: int) -> int:
    """Whole seconds that are left: 3, 2, 1."""
    return math.ceil(us / 1e6)


def record(source: Source, recorder: Recorder, view: View, stop: threading.Event) -> None:
    """Read the source until the recorder has its clips or the source ends.

    A thread reads it, so that one that hangs in a driver or never gives a whole frame is seen. SourceError if it cannot
    be opened, is lost or stalls, ConfigError if a clip cannot be written; the clip under way is discarded.
    """
    reader = Reader(source, recorder, stop)
    done: Future[None] = Future()  # not Thread.join: before Python 3.13, Ctrl-C in it makes a running thread look ended

    def read() -> None:
        try:
            reader.run()
            if not stop.is_set():
                recorder.finish()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    view.show(f"{source.uri}: opening")
    threading.Thread(target=read, name="record", daemon=True).start()
    try:
        while not done.done():
            wait([done], _WATCH_S)
            _check(source, reader)
        done.result()
        if not stop.is_set():
            view.say(f"{source.uri}: has ended")
    finally:
        stop.set()
        wait([done], _JOIN_S)
        if done.done():
            recorder.discard()
        else:  # the thread hangs, and only it may close what it writes
            recorder.part.unlink(missing_ok=True)


def _check(source: Source, reader: Reader) -> None:
    """SourceError if the source is lost, came back, or hangs."""
    now = time.monotonic()
    health = reader.health(now)
    if health.state == "offline":  # for a live pipeline it would be connected again
        raise SourceError(health.detail.removesuffix("connecting again").rstrip("; "))
    if health.reconnects:
        raise SourceError(f"{source.uri}: the connection was lost for a moment; record again")
    if reader.hangs(now):
        raise SourceError(f"{source.uri}: no picture for {source.patience_s:g} s; check the camera, or restart it")


def open_for_recording(uri: str) -> Source:
    """The source; one that ends is read as fast as it goes. SourceError if there is none such."""
    try:
        source = open_source(SourceConfig(uri=uri))
    except ValidationError as error:
        raise SourceError(f"--source: {error.errors()[0]['msg'].lower()}") from None
    return source if source.live else open_source(SourceConfig(uri=uri, pace="fast"))
