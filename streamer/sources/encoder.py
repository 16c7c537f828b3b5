"""Pictures -> H.264, for the clips of a source that sends none: in a thread of its own, behind everything else."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from fractions import Fraction

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext

from streamer.sources.packets import Format, Packet
from streamer.types import Image

NICENESS = 10
_WAITING = 4  # pictures; more are left out, since the recognition comes first
_END_S = 0.3
_KEY_US = 1_000_000  # a keyframe at least as often
_LEAST_US = 25_000  # pictures that are less far apart come from a camera that is faster than a clip needs
_TIME_BASE = Fraction(1, 1_000_000)
_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "crf": "24"}

log = logging.getLogger(__name__)


class Encoder:
    """Encodes pictures that it is offered; `emit` gets the packets, in its thread. It leaves out what is too much."""

    def __init__(self, emit: Callable[[Packet], None]) -> None:
        self._emit = emit
        self._pictures: queue.Queue[tuple[Image, int, tuple[int, int]] | None] = queue.Queue(_WAITING)
        self._offered_us = -(2**62)
        self._left_out = self._told = 0
        self._thread = threading.Thread(target=self._run, name="clip encoder", daemon=True)
        self._thread.start()

    def offer(self, picture: Callable[[], Image], time_us: int, run: tuple[int, int]) -> None:
        """Take a picture [H, W, 3], captured at `time_us`; it is asked for only if there is room."""
        if 0 <= time_us - self._offered_us < _LEAST_US:
            return
        self._offered_us = time_us
        if self._pictures.full():
            self._left_out += 1
        else:
            self._pictures.put_nowait((picture(), time_us, run))

    def close(self) -> None:
        """End the thread after what it was offered, for which this waits a moment."""
        try:
            self._pictures.put(None, timeout=_END_S)
        except queue.Full:
            self._pictures.get_nowait()
            self._pictures.put_nowait(None)
        self._thread.join(_END_S)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        context: VideoCodecContext | None = None
        about: object = None
        began_us = key_us = 0
        try:
            while (one := self._pictures.get()) is not None:
                image, time_us, run = one
                height, width = (length // 2 * 2 for length in image.shape[:2])  # colours are in pairs of pixels
                image = np.ascontiguousarray(image[:height, :width])
                if not image.size:
                    continue
                if context is None or about != (image.shape, run):
                    context, about, began_us, key_us = _open(image), (image.shape, run), time_us, time_us
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame = frame.reformat(format="yuv420p", threads=1)
                frame.pts, frame.time_base = time_us - began_us, _TIME_BASE
                if time_us - key_us >= _KEY_US:
                    frame.pict_type, key_us = av.video.frame.PictureType.I, time_us
                for packet in context.encode(frame):
                    size = context.width, context.height
                    form = Format("h264", *size, b"") if packet.is_keyframe else None
                    left_out = self._left_out
                    at_us = began_us + (packet.pts or 0)
                    self._emit(Packet(bytes(packet), at_us, run, form, left_out - self._told))
                    self._told = left_out
        except (av.error.FFmpegError, ValueError) as error:
            log.warning("pictures cannot be encoded for clips: %s", error)


def _open(image: Image) -> VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
    context.time_base, context.options, context.thread_count = _TIME_BASE, _OPTIONS, 1
    return context
