"""Which way up a picture is: the eight orientations that cameras and phones write down. Pure but for reading frames."""

from __future__ import annotations

import struct
from typing import Any

import av
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.stream import VideoStream

from streamer.types import Image

Orientation = tuple[int, int, int, int]
"""(a, b, c, d) of a display matrix: the pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift."""

UPRIGHT: Orientation = (1, 0, 0, 1)

# of EXIF's tag Orientation: where its first row and column are shown
_EXIF: dict[int, Orientation] = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
_QUARTERS = (UPRIGHT, _EXIF[8], _EXIF[3], _EXIF[6])  # counterclockwise
_TAG, _HEAD = 0x112, 1 << 16  # EXIF stands in the first so many bytes
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # how a TIFF header begins


def turned(image: Image, orientation: Orientation) -> Image:
    """The picture [H, W, 3] as it should be shown, turned by the nearest quarter and mirrored; a view of it."""
    a, b, c, d = orientation
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, down, right = image.transpose(1, 0, 2), b, c
    else:
        down, right = d, a
    return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def orientation(frame: av.VideoFrame, packet: Packet[VideoStream] | None) -> Orientation:
    """How the frame, which this packet completed, is to be shown: by its display matrix, which may come from EXIF."""
    try:
        # frame.side_data would hold the frame that holds it, until the garbage collector comes: 50 MB at 8K
        matrix: Any = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]
    except ValueError:  # PyAV 18 cannot tell the side data of a frame that has EXIF, only by how much it is turned
        exif = _exif_orientation(bytes(memoryview(packet)[:_HEAD])) if packet else None
        return exif or _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    return a, b, c, d


def _exif_orientation(head: bytes) -> Orientation | None:
    """What the EXIF block in the first bytes of a picture says; None where there is none that can be read."""
    starts = [at for mark in _ORDERS if (at := head.find(mark)) >= 0]
    if not starts:
        return None
    tiff = head[min(starts) :]
    order = _ORDERS[tiff[:4]]
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == _TAG:
                return _EXIF.get(value)
    except struct.error:
        pass
    return None
