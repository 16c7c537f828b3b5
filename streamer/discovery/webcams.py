"""Webcams of Linux, with their names and modes: V4L2's questions (linux/videodev2.h), asked of each /dev/video*."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamer.discovery.found import Mode, Webcam
from streamer.text import printable

_DEVICES = Path("/dev")
MOST = 64  # answers to one question, devices among them
_QUERYCAP, _FORMATS, _SIZES, _INTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
_CAPTURES, _HAS_DEVICE_CAPS = 1, 0x80000000  # bits of what a device can do
_PICTURES = 1  # the type of buffer
_DISCRETE = 1  # the type of size, and of interval

log = logging.getLogger(__name__)


def webcams() -> list[Webcam]:
    """The webcams that are plugged in, and that this user may open."""
    stable = {link.resolve(): link for link in sorted((_DEVICES / "v4l" / "by-id").glob("*"), reverse=True)}
    found = []
    for device in sorted(_DEVICES.glob("video*"), key=lambda path: (len(path.name), path.name))[:MOST]:
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            log.warning("%s: cannot be opened: %s; may your user read it (group video)?", device, error.strerror)
            continue
        try:
            name = _name(descriptor)
            if name is not None:
                found.append(Webcam(stable.get(device.resolve(), device), name, tuple(_modes(descriptor))))
        finally:
            os.close(descriptor)
    return found


def _ask(descriptor: int, question: int, layout: str, *values: int) -> tuple[Any, ...] | None:
    """The numbers of an answer; None where the driver has none."""
    import fcntl  # not on Windows

    asked = bytearray(struct.calcsize(layout))
    struct.pack_into(f"={len(values)}I", asked, 0, *values)
    try:
        fcntl.ioctl(descriptor, question, asked)
    except OSError:
        return None
    return struct.unpack(layout, asked)


def _name(descriptor: int) -> str | None:
    """What a webcam is called; None if the device gives no pictures."""
    answer = _ask(descriptor, _QUERYCAP, "=16s32s32s6I")
    if answer is None:
        return None
    _, card, _, _, whole, own, *_ = answer
    if not (own if whole & _HAS_DEVICE_CAPS else whole) & _CAPTURES:
        return None
    return printable(card.partition(b"\0")[0].decode(errors="replace"))


def _modes(descriptor: int) -> Iterator[Mode]:
    """The modes, in the driver's order."""
    for index in range(MOST):
        answer = _ask(descriptor, _FORMATS, "=3I32s5I", index, _PICTURES)
        if answer is None:
            return
        pixels = answer[4]
        word = printable(pixels.to_bytes(4, "little").decode("latin-1").strip())
        for width, height in _sizes(descriptor, pixels):
            yield Mode(word, width, height, _fps(descriptor, pixels, width, height))


def _sizes(descriptor: int, pixels: int) -> Iterator[tuple[int, int]]:
    """Widths and heights, px; the largest, where any are possible in a range."""
    for index in range(MOST):
        answer = _ask(descriptor, _SIZES, "=11I", index, pixels)
        if answer is None:
            return
        if answer[2] != _DISCRETE:
            yield answer[4], answer[7]
            return
        yield answer[3], answer[4]


def _fps(descriptor: int, pixels: int, width: int, height: int) -> float:
    """The highest rate, frames/s; 0 where the driver does not tell."""
    best = 0.0
    for index in range(MOST):
        answer = _ask(descriptor, _INTERVALS, "=13I", index, pixels, width, height)
        if answer is None:
            break
        seconds, parts = answer[5:7]  # of the shortest frame, where any are possible in a range
        best = max(best, parts / seconds if seconds else 0.0)
        if answer[4] != _DISCRETE:
            break
    return best
