"""Test pictures that carry their own number, readable even after lossy compression and scaling."""

from __future__ import annotations

import numpy as np

from engines.backends.scripted import BARS, read_numbers
from streamer.types import Image


def barcode(number: int, height: int = 128, width: int = 160) -> Image:
    """A picture [height, width, 3]: ten vertical bars, dark or bright, are the number's bits, lowest first."""
    bits = [number >> bit & 1 for bit in range(BARS)]
    row = np.repeat(np.array(bits, np.uint8) * 200 + 30, -(-width // BARS))[:width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_barcode(image: Image) -> int:
    """The number of a picture [H, W, 3], whatever its size now is."""
    return int(read_numbers(image[None])[0])
