"""An OpenCV window that shows one stream with its labels. OpenCV wants its windows in the main thread, so there the
pipeline runs in another.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from engines.opencv import cv2
from streamer.errors import ConfigError
from streamer.labels.messages import Message
from streamer.region import Corners
from streamer.types import Image
from streamer.view.overlay import Overlay, outlined

_WAIT_MS = 30
_KEYS = (27, ord("q"))  # Esc
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
_PROBE_S = 20
_PAGE = "use --view, a page in the browser"

Result = TypeVar("Result")


class Window:
    """A window for one stream, whose name is its title; call it with every message. corners: of its view, if it is one.

    Raises ConfigError where no window can be shown.
    """

    def __init__(self, stream: str, corners: Corners | None = None) -> None:
        check_window()
        self._stream, self._corners = stream, corners
        self._overlay = Overlay()
        self._lock = threading.Lock()  # messages come from the engine's thread
        self._frame_us = 0
        self._sized = False

    def __call__(self, message: Message) -> None:
        """Take one message."""
        if message.stream == self._stream:
            with self._lock:
                self._overlay(message)
                self._frame_us = message.ts.frame_us or self._frame_us

    def run(
        self, work: Callable[[threading.Event], Result], stop: threading.Event, newest: Callable[[str], Image | None]
    ) -> Result:
        """Show the window while `work` runs in another thread, and return its result.

        q, Esc and closing the window set `stop`, which ends the work. `newest` gives a stream's last frame.
        """
        with ThreadPoolExecutor(1, "pipeline") as pool:
            result = pool.submit(work, stop)
            try:
                cv2.namedWindow(self._stream, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
                while not result.done():
                    if not self._show(newest(self._stream)):
                        break
            finally:
                stop.set()
                with suppress(cv2.error):  # it may be closed already
                    cv2.destroyWindow(self._stream)
            return result.result()

    def _show(self, image: Image | None) -> bool:
        """Draw a frame, if there is one; False once the window was closed."""
        if image is not None:
            if not self._sized:
                cv2.resizeWindow(self._stream, image.shape[1], image.shape[0])
                self._sized = True
            with self._lock:
                drawn = self._overlay.draw(outlined(image, self._corners), self._frame_us)
            cv2.imshow(self._stream, drawn)
        return cv2.waitKey(_WAIT_MS) not in _KEYS and cv2.getWindowProperty(self._stream, cv2.WND_PROP_VISIBLE) > 0


def check_window() -> None:
    """Whether OpenCV can show a window here; ConfigError with the reason and the remedy otherwise."""
    gui = re.search(r"GUI:\s+(\S+)", cv2.getBuildInformation())
    if gui is None or gui[1] == "NONE":
        remedy = "pip uninstall opencv-python-headless && pip install opencv-python"
        raise ConfigError(f"--window: this OpenCV is built without windows; {remedy}, or {_PAGE}")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(f"--window: there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); {_PAGE}")
    # on a display that cannot be reached, the window library ends the whole process: so let it be another one
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_S, check=False)
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise ConfigError(f"--window: the display {os.environ.get('DISPLAY', '')!r} cannot be used; {_PAGE}")
