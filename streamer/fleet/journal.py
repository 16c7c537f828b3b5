"""The events that a hub has told the start of and not the end, on disk: so that the next hub can end them.

One file, one message a line: each start and each end as it went out. It is written anew when it has grown.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from io import FileIO
from pathlib import Path

from streamer.errors import ConfigError, StreamerError
from streamer.labels.messages import EventMessage, decode, encode, topic

MOST_LINES = 10_000  # more than events are open; then those that have ended are left out
_log = logging.getLogger(__name__)


class Journal:
    """left: the events that are open, by stream; found: a hub before this one has kept some.

    Raises ConfigError for a file that cannot be read or written.

    A disk that fails later is told once: labels go on, and only the memory of open events is lost.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lines, self._failed = path, 0, False
        self._file: FileIO | None = None
        self.left: dict[str, EventMessage] = {}
        try:
            self.found = path.exists()
            lines = path.read_bytes().splitlines() if self.found else []
            for line in lines:
                self._read(line)
            self._rewrite()
        except OSError as error:
            raise ConfigError(f"{path}: open events cannot be kept there: {error.strerror or error}") from error

    def note(self, event: EventMessage) -> None:
        """A start or an end has gone out."""
        self._follow(event)
        try:
            assert self._file
            self._file.write(encode(event) + b"\n")
            self._lines += 1
            if self._lines > MOST_LINES + 2 * len(self.left):
                self._rewrite()
        except OSError as error:
            if not self._failed:
                _log.warning("%s: cannot be written: %s; open events end here if the head dies", self._path, error)
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _read(self, line: bytes) -> None:
        """Follow a line; one that a dying machine wrote half is none."""
        with suppress(StreamerError, ValueError):
            stream = line.split(b'"stream":"', 1)[1].split(b'"', 1)[0].decode()
            message = decode(topic(stream, "event").encode(), line)
            if isinstance(message, EventMessage):
                self._follow(message)

    def _follow(self, event: EventMessage) -> None:
        if event.type == "end":
            self.left.pop(event.stream, None)
        else:
            self.left[event.stream] = event

    def _rewrite(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_bytes(b"".join(encode(event) + b"\n" for event in self.left.values()))
        part.replace(self._path)
        if self._file:
            self._file.close()
        self._file = FileIO(self._path, "ab")
        self._lines = len(self.left)
