from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream

from engines.opencv import cv2
from streamer.sources.video import Smaller, bgr
from streamer.types import Image, Size

BT709, LIMITED, FULL = 1, 1, 2  # AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG


def scene(height: int = 240, width: int = 320) -> Image:
    """Colours that run and have edges, as pictures do."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], -1)
    image = image.astype(np.uint8)
    cv2.circle(image, (width // 3, height // 2), height // 4, (30, 200, 240), -1)
    return image


def shown(format_: str, image: Image | None = None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(scene() if image is None else image, format="bgr24").reformat(format=format_)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    return frame


def smaller(frame: av.VideoFrame, size: Size) -> Image | None:
    packet = cast("Packet[VideoStream]", Packet(b""))
    return Smaller().small(frame, packet, lambda _: size)


@pytest.mark.parametrize("size", [(112, 112), (61, 97), (240, 320)])
@pytest.mark.parametrize("format_", ["yuv420p", "yuvj420p", "nv12", "yuv422p10le", "yuv444p", "gray"])
def test_a_frame_made_smaller_at_once_is_the_one_that_is_converted_and_then_scaled(format_: str, size: Size) -> None:
    frame = shown(format_)
    found = smaller(frame, size)
    assert found is not None
    assert found.dtype == np.uint8
    wanted = cv2.resize(bgr(frame), size[::-1], interpolation=cv2.INTER_AREA)
    difference = np.abs(found.astype(int) - wanted)
    assert difference.mean() < 3
    assert np.percentile(difference, 99) <= 16


@pytest.mark.parametrize("range_", [LIMITED, FULL])
def test_its_colours_are_what_the_frame_says_that_they_are(range_: int) -> None:
    frame = shown("yuv420p")
    frame.colorspace, frame.color_range = BT709, range_
    found = smaller(frame, (60, 80))
    assert found is not None
    wanted = cv2.resize(bgr(frame), (80, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - wanted).mean() < 3


@pytest.mark.parametrize(("format_", "size"), [("bgr24", (60, 80)), ("yuv420p", (241, 80)), ("yuv420p", (60, 321))])
def test_what_has_other_colours_or_gets_larger_is_left_to_others(format_: str, size: Size) -> None:
    assert smaller(shown(format_), size) is None
