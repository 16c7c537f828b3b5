"""Test pictures that carry their own number, readable even after lossy compression and scaling."""

from __future__ import annotations

import numpy as np

from streamer.types import Image

_BITS = 10


def barcode(number: int, height: int = 128, width: int = 160) -> Image:
    """A picture [height, width, 3]: ten vertical bars, dark or bright, are the number's bits, lowest first."""
    bits = [number >> bit & 1 for bit in range(_BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 200 + 30, -(-width // _BITS))[:width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_barcode(image: Image) -> int:
    """The number of a picture [H, W, 3], whatever its size now is."""
    width = image.shape[1]
    centres = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    middle = image[image.shape[0] // 2]
    return sum(1 << bit for bit, x in enumerate(centres) if middle[x].mean() > 128)
