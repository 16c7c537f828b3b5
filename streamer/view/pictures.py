"""JPEG pictures of the newest frames: made when somebody asks, in a thread of their own, once for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from engines.opencv import cv2
from streamer.types import Image


class Level(NamedTuple):
    """A picture's greatest width, and its JPEG quality."""

    width: int
    quality: int


LEVELS = (Level(320, 45), Level(480, 60), Level(640, 70), Level(960, 80))


class Pictures:
    """The newest picture of each stream at each level; for one event loop.

    newest  gives a stream's last frame, or None if it has none. What nobody asks for is never encoded
    """

    def __init__(self, newest: Callable[[str], Image | None]) -> None:
        self._newest = newest
        self._pool = ThreadPoolExecutor(1, "view pictures")
        self._made: dict[tuple[str, int], tuple[Image, asyncio.Future[bytes]]] = {}

    async def after(self, last: Image | None, stream: str, level: int) -> tuple[Image, bytes] | None:
        """The stream's newest frame and its JPEG; None if that frame is `last`, or there is none."""
        image = self._newest(stream)
        if image is None or image is last:
            return None
        made = self._made.get((stream, level))
        if made is None or made[0] is not image:
            encoding = asyncio.get_running_loop().run_in_executor(self._pool, jpeg, image, LEVELS[level])
            made = self._made[stream, level] = image, encoding
        return image, await asyncio.shield(made[1])

    def forget(self) -> None:
        """Nobody looks any more: keep no pictures."""
        self._made.clear()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def jpeg(image: Image, level: Level) -> bytes:
    """A picture [H, W, 3] as JPEG, made smaller where it is wider than the level."""
    height, width = image.shape[:2]
    if width > level.width:
        size = level.width, max(1, round(height * level.width / width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, level.quality])[1])
