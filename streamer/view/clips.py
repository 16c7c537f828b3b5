"""The clips of the run, for the player in the browser, which asks for a part of a file at a time (RFC 9110, Range)."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from streamer.web import PATIENCE_S, Request, Visitor, text

PIECE_BYTES = 1 << 16
_NAME = re.compile(r"[a-z0-9_-]{1,160}\.mp4")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def open_clip(folder: Path, name: str) -> BinaryIO | None:
    """A clip of the folder, open; None if there is none of this name: only whole clips with their note are clips."""
    note = folder / f"{name.removesuffix('.mp4')}.json"
    if not _NAME.fullmatch(name) or not note.is_file():
        return None
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def wanted(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte that a Range asks for, and the one after the last; None if it lies behind the end.

    Without a Range that can be read, or with several, it is all of the file.
    """
    match = _RANGE.fullmatch(asked or "")
    if match is None or match[0] == "bytes=-":
        return 0, size
    if not match[1]:
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (begin, end) if begin < end else None


async def send_clip(visitor: Visitor, request: Request, clip: BinaryIO) -> None:
    """Answer with the part of the clip that is asked for, for as long as the browser takes it."""
    size = os.fstat(clip.fileno()).st_size
    asked = request.fields.get("range")
    part = wanted(asked, size)
    if part is None:
        told = text(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "behind the end", **{"Content-Range": f"bytes */{size}"}
        )
        await visitor.answer(told)
        return
    begin, end = part
    visitor.welcome()
    headers = {"Content-Type": "video/mp4", "Content-Length": str(end - begin), "Accept-Ranges": "bytes"}
    partial = asked is not None and part != (0, size)
    if partial:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    visitor.begin(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK, headers)
    clip.seek(begin)
    while begin < end and (piece := await asyncio.to_thread(clip.read, min(PIECE_BYTES, end - begin))):
        visitor.writer.write(piece)
        await asyncio.wait_for(visitor.writer.drain(), PATIENCE_S)
        begin += len(piece)
    visitor.writer.write_eof()
    await asyncio.wait_for(visitor.reader.read(1), PATIENCE_S)
