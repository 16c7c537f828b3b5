"""Webcams through OpenCV: V4L2 on Linux; elsewhere its own back ends, unproven."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from engines.opencv import cv2
from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.clock import CaptureClock, UtcClock
from streamer.sources.waited import Waited
from streamer.system import LINUX
from streamer.types import Frame, Timeline

_DEVICES = Path("/dev")
_NAMES = Path("/sys/class/video4linux")
_BACKENDS = {"darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_MSMF}
_MAY = {
    "darwin": "may this program use the camera (System Settings, Privacy)",
    "linux": "may your user read it (group video)",
    "win32": "may desktop apps use the camera (Settings, Privacy)",
}


class CameraSource(Source):
    """A webcam by number (0), device (/dev/video0, /dev/v4l/by-id/...) or part of its name (v4l2:NAME).

    Numbers change when cameras are plugged in; names do not. A camera that is missing or in use is tried again.
    """

    noisy = True

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        device, backend = self._device() if LINUX else self._number()
        # how long OpenCV waits for a frame, in seconds; it reads this once, at the first capture of the process
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(self.config.read_s)))
        capture = cv2.VideoCapture(device, backend)
        try:
            if not capture.isOpened():
                advice = f"is another program using it, and {_MAY.get(sys.platform, _MAY['linux'])}?"
                raise SourceError(f"{self.uri}: the camera {device} cannot be opened; {advice}", "soon")
            self._ask(capture)
            yield from self._read(capture, connection, stop)
        finally:
            capture.release()

    def _number(self) -> tuple[int, int]:
        """The camera that the URI names on another system, and OpenCV's back end there."""
        wanted = self.config.uri.removeprefix("v4l2:")
        if not wanted.isdecimal():
            raise SourceError(f"{self.uri}: cameras have names on Linux only; name it by its number, such as 0")
        return int(wanted), _BACKENDS.get(sys.platform, cv2.CAP_ANY)

    def _device(self) -> tuple[str, int]:
        """The device that the URI names on Linux, and OpenCV's back end for it."""
        wanted = self.config.uri.removeprefix("v4l2:")
        device = _DEVICES / f"video{wanted}" if wanted.isdecimal() else Path(wanted)
        if not device.is_absolute():
            device = next((path for name, path in _named_devices() if wanted.lower() in name.lower()), device)
        if device.is_absolute() and device.exists():
            return str(device), cv2.CAP_V4L2
        present = ", ".join(sorted(str(path) for path in _DEVICES.glob("video*"))) or "none"
        raise SourceError(f"{self.uri}: no such camera; cameras here: {present}; plug it in or name another", "soon")

    def _ask(self, capture: cv2.VideoCapture) -> None:
        """Ask for the format: MJPG first, since few cameras manage 30 fps without it. Frames show what comes."""
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, self.config.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, self.config.height),
            (cv2.CAP_PROP_FPS, self.config.fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            if value is not None:
                capture.set(key, value)

    def _read(self, capture: cv2.VideoCapture, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        clock, utc, waited = CaptureClock(), UtcClock(), Waited()
        index = 0
        while not stop.is_set():
            if not capture.grab():
                raise SourceError(f"{self.uri}: the camera sends nothing; was it unplugged? connecting again", "soon")
            arrived_s, arrival_us, set_us = time.monotonic(), utc.now_us(), utc.set_us
            # the driver's timestamp, on the monotonic clock; 0 or -1 where there is none
            driver_us = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1000)
            decoded, image = capture.retrieve()
            if not decoded:
                self.damaged()
                continue
            timed = LINUX and driver_us > 0
            reference_us = utc.utc_us(driver_us) if timed else None
            time_us = clock.utc_us(driver_us if timed else None, arrival_us, reference_us, set_us)
            arrived_s -= waited.wait_s(driver_us if timed else None, arrived_s)
            timeline = Timeline(set_us=set_us)
            yield Frame(time_us, index, connection, partial(np.asarray, image, np.uint8), arrived_s, timeline)
            index += 1


def _named_devices() -> Iterator[tuple[str, Path]]:
    """(name, device) of every webcam: the stable names first, then the names that the drivers give."""
    for link in sorted((_DEVICES / "v4l" / "by-id").glob("*")):
        yield link.name, link
    for entry in sorted(_NAMES.glob("video*/name")):
        yield entry.read_text(errors="replace").strip(), _DEVICES / entry.parent.name
