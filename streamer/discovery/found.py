"""What is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mode:
    """How pictures come; what is not told is empty or 0.

    format  MJPG, H264, ...
    width, height   px
    fps     frames/s, at most
    """

    format: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}" if self.width and self.height else ""
        return " ".join(filter(None, (self.format, size, f"at {self.fps:.3g}" if self.fps else "")))


@dataclass(frozen=True, slots=True)
class Webcam:
    """A webcam: its device under its most stable name, and what it is called."""

    device: Path
    name: str
    modes: tuple[Mode, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a network camera; its address has no user in it."""

    uri: str
    name: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class NetworkCamera:
    """A network camera: the address of its device service, and what it calls itself, which may be nothing."""

    url: str
    name: str = ""
    streams: tuple[Stream, ...] = ()
