"""The JPEGs in what an HTTP camera sends, whatever stands between them. Pure.

Cameras differ in all but the pictures: a first boundary that is missing, a boundary that is not the announced one,
parts without a length, no parts at all. So a picture begins where its start marker is. It is as long as the part's
header says; where nothing is said it ends at its end marker (ITU-T T.81, B.1), found segment by segment, since EXIF
has a picture within the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_BYTES = 32 << 20
"""Of a picture, and of anything between two pictures."""

_START = b"\xff\xd8\xff"
_MARKER = re.compile(
    rb"\xff[^\x00\x01\xd0-\xd7\xff]"
)  # that says something: not one of those within the picture's data
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,10})[ \t]*", re.IGNORECASE)
_HEADER_END = b"\n\n", b"\n\r\n"
_HEAD = 4096  # bytes before a picture that its header stands in
_LEAST = 64  # bytes; lengths that are less are wrong


class Jpegs:
    """Collects what comes, in memory that is bounded; ValueError when no picture ends within `MOST_BYTES`."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._begun = False  # the data begin with a picture
        self._length: int | None = None  # of that picture, if its header says it
        self._seen = 0  # the bytes that need not be looked at again
        self._skipped = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pictures that these bytes complete."""
        self._data += data
        while (self._begun or self._begin()) and (end := self._end()):
            self._begun = False
            yield self._cut(end)
        if len(self._data) + self._skipped > MOST_BYTES:
            raise ValueError(f"no picture in {MOST_BYTES} bytes")

    def _cut(self, end: int) -> bytes:
        piece = bytes(self._data[:end])
        del self._data[:end]
        self._seen = 0
        return piece

    def _begin(self) -> bool:
        """Go to the next picture; False if there is none yet."""
        at = self._data.find(_START, self._seen)
        if at < 0:
            keep = max(0, len(self._data) - _HEAD)
            self._skipped += len(self._cut(keep))
            self._seen = max(0, len(self._data) - len(_START) + 1)
            return False
        length = _length(self._cut(at)[-_HEAD:])
        self._length = length if _LEAST <= length <= MOST_BYTES else None
        self._begun, self._seen, self._skipped = True, 2, 0
        return True

    def _end(self) -> int | None:
        """Where the picture ends, if it has come."""
        data = self._data
        if self._length is not None:
            return self._length if len(data) >= self._length else None
        while marker := _MARKER.search(data, self._seen):
            at, kind = marker.start(), data[marker.start() + 1]
            if kind == 0xD9:
                return at + 2
            if kind == 0xD8:  # the next picture: some cameras leave the end marker out
                return at
            if at + 4 > len(data):
                self._seen = at
                return None
            self._seen = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        self._seen = max(self._seen, len(data) - 1)
        return None


def _length(header: bytes) -> int:
    """What the header that these bytes end with says of the length; 0 if nothing. In linear time."""
    lines = header.splitlines()[:-1] if header.endswith(_HEADER_END) else []
    for line in reversed(lines):
        if not line:
            break
        if said := _LENGTH.fullmatch(line):
            return int(said[1])
    return 0
