from __future__ import annotations

import gc
import struct
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.sources import open_source

SHOWN = np.full((48, 80, 3), 20, np.uint8)  # a picture that looks different from all eight sides
SHOWN[:24, :40] = 240
SHOWN[:24, 40:] = 130

# of EXIF: how the picture is stored for each value, and the display matrix that says the same
STORED = {
    1: (SHOWN, (1, 0, 0, 1)),
    2: (SHOWN[:, ::-1], (-1, 0, 0, 1)),
    3: (SHOWN[::-1, ::-1], (-1, 0, 0, -1)),
    4: (SHOWN[::-1], (1, 0, 0, -1)),
    5: (SHOWN.transpose(1, 0, 2), (0, 1, 1, 0)),
    6: (np.rot90(SHOWN), (0, 1, -1, 0)),
    7: (np.rot90(SHOWN, 2).transpose(1, 0, 2), (0, -1, -1, 0)),
    8: (np.rot90(SHOWN, -1), (0, -1, 1, 0)),
}


def is_shown(path: Path) -> bool:
    frame = next(open_source(SourceConfig(uri=str(path), pace="fast")).frames(0, threading.Event()))
    image = frame.bgr()
    return image.shape == SHOWN.shape and bool(np.abs(image.astype(int) - SHOWN).mean() < 12)


@pytest.mark.parametrize("value", STORED)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_jpeg_is_shown_as_its_exif_orientation_says(tmp_path: Path, value: int, order: str) -> None:
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(STORED[value][0]))[1].tobytes()
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    tiff = mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0)
    block = b"Exif\0\0" + tiff
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
    assert is_shown(path)


@pytest.mark.parametrize("value", STORED)
def test_a_video_is_shown_as_its_display_matrix_says(tmp_path: Path, value: int) -> None:
    stored, (a, b, c, d) = STORED[value]
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *stored.shape[:2], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="bgr24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    assert is_shown(path)


def test_an_exif_block_that_is_damaged_changes_nothing(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", SHOWN)[1].tobytes()
    for tiff in (b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff\1\x12", b"II*\0"):
        block = b"Exif\0\0" + tiff
        path = tmp_path / "picture.jpg"
        path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])
        assert is_shown(path)


def test_a_frame_that_was_shown_takes_no_memory_even_before_the_garbage_collector_comes(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), SHOWN)
    gc.collect()
    gc.disable()
    try:
        assert is_shown(path)
        assert not [kept for kept in gc.get_objects() if type(kept) is av.VideoFrame]
    finally:
        gc.enable()
