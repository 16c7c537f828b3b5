"""What all sources share: the interface, and the name of a stream."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from pathlib import Path

from streamer.config import LONGEST_NAME, SourceConfig
from streamer.region import Corners
from streamer.sources.packets import Packet, Recorder
from streamer.text import shown_address
from streamer.types import Frame

log = logging.getLogger(__name__)


def stream_name(uri: str) -> str:
    """A stream's name made from its URI: host and path, the file's stem, or the device; never credentials.

    Matches [a-z0-9_-]{1,64}.
    """
    if uri == "-":
        return "stdin"
    scheme, separator, address = shown_address(uri).partition("?")[0].lower().partition("://")
    if separator and scheme != "file":
        text = address.rpartition("@")[2]
    else:
        text = Path(uri.lower().removeprefix("v4l2:").removeprefix("file:")).stem
    name = re.sub(r"[^a-z0-9_-]+", "-", text).strip("-")[:64]
    return f"camera{name}" if name.isdecimal() else name or "stream"


class Source(ABC):
    """A place that frames come from; it can be read again and again, each time as a new connection.

    uri      where it is, safe to show
    name     of its stream, or what the names of its streams begin with, [a-z0-9_-]{1,64}
    live     a camera: when it ends it is read again. Otherwise an end is the end, and an error is final
    noisy    it sees the world: no two pictures are the very same, however still the scene, unless it is frozen
    path     of a file; None for all others
    corrupt  damaged packets and frames so far; any thread may read it
    crashes  how often its decoder crashed or hung so far, and was replaced: only where it runs in a process of its own
    note     what it does otherwise than usual, or what it waits for; empty: nothing. Any thread may read it
    heard_s  when the camera last sent anything at all, by the monotonic clock
    on_note  is called with every note instead of the log
    on_packet  is called with the compressed pictures of `recorded`, from any thread; None: nobody wants them
    rate_hz  how many frames a second are wanted, for a source that can choose; None: as many as come
    patience_s  a thread that reads this source returns at most this long after it was told to stop, unless it hangs
    """

    live = True
    noisy = False
    path: Path | None = None

    def __init__(self, config: SourceConfig) -> None:
        self.config = config
        self.uri = shown_address(config.uri)
        longest = max((len(view) + 1 for view in config.views), default=0)
        self.name = config.name or stream_name(config.uri)[: LONGEST_NAME - longest]
        self.corrupt = self.crashes = 0
        self.patience_s = 2 * (config.open_s + config.read_s)
        self.note, self.heard_s = "", -math.inf
        self.rate_hz: float | None = None
        self.on_note: Callable[[str], None] | None = None
        self.on_packet: Callable[[Packet], None] | None = None
        self.recorder = Recorder()
        self._noted: set[str] = set()

    @property
    def streams(self) -> dict[str, Corners | None]:
        """The streams that are made of it, by name: one of its whole pictures, or one for each view, of its part."""
        if not self.config.views:
            return {self.name: None}
        return {f"{self.name}-{view}": corners for view, corners in self.config.views.items()}

    def damaged(self) -> None:
        """Count a damaged packet or frame."""
        self.corrupt += 1

    def say(self, note: str) -> None:
        """The camera is there; what is to be told of it until something else is. Each thing is logged once."""
        self.heard_s = time.monotonic()
        if self.on_note:
            self.on_note(note)
        elif note and note not in self._noted:
            self._noted.add(note)
            log.warning("%s: %s", self.name, note, extra={"stream": self.name})
        self.note = note

    @abstractmethod
    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """Connect, then yield frames until the end or until `stop` is set.

        To be read, and closed, in one thread: closing a container while another thread reads it crashes the process.
        Returning means the end of a file. SourceError when it cannot be opened or read, with what to do about it in
        `retry`.
        """

    def recorded(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As `frames`, with the compressed pictures for `on_packet`."""
        if self.on_packet:
            from streamer.sources.recorder import PacketRecorder

            self.recorder = PacketRecorder(self.on_packet, connection)
        return self.recorder.recorded(self.frames(connection, stop))

    def close(self) -> None:  # noqa: B027
        """Let go of what outlives a connection. Called by the thread that read it, at its end; again does no harm."""
