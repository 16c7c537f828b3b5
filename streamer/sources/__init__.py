"""Where frames come from, told apart by their URI. `open_source` makes a `Source`; `Reader` reads it in a thread.

base.py      what all sources share, and reader.py, which connects again when a camera goes away
camera.py    webcams
rtsp.py      RTSP cameras; web.py: HTTP cameras, with conversation.py (GET) and jpegs.py (pictures in what they send)
file.py      video files; pipe.py: pipes and standard input
pattern.py   a drawn scene, for demonstrations and tests
process.py   any of these in a process of its own, whose program is child.py
video.py     decoding with FFmpeg, which they share; sparing.py leaves out what nobody needs, hardware.py does it on a
             GPU, live.py knows live video
address.py, login.py, peer.py      network cameras: their address, user and password, and how far they are trusted
clock.py, waited.py                when a frame was captured
frozen.py, upright.py              a camera that hangs; which way up a picture is
recorder.py, packets.py, encoder.py      the compressed pictures, for clips
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from engines.errors import did_you_mean
from streamer.config import LONGEST_NAME, Capture, SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.sources.base import Source
from streamer.system import LINUX, needs_linux
from streamer.text import shown_address

__all__ = ["Source", "distinguish", "open_source"]

_FORMS = (
    "0, /dev/video0, v4l2:NAME, rtsp://HOST/PATH, http://HOST/PATH, a video file, - (standard input), pattern://swipe"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(file|v4l2):")


def _camera(config: SourceConfig) -> Source:
    from streamer.sources.camera import CameraSource

    return CameraSource(config)


def _rtsp(config: SourceConfig) -> Source:
    from streamer.sources.rtsp import RtspSource

    return RtspSource(config)


def _web(config: SourceConfig) -> Source:
    from streamer.sources.web import WebSource

    return WebSource(config)


def _file(config: SourceConfig) -> Source:
    from streamer.sources.file import FileSource

    return FileSource(config)


def _pattern(config: SourceConfig) -> Source:
    from streamer.sources.pattern import PatternSource

    return PatternSource(config)


_KINDS: dict[str, Callable[[SourceConfig], Source]] = {
    "file": _file,
    "http": _web,
    "https": _web,
    "pattern": _pattern,
    "rtsp": _rtsp,
    "rtsps": _rtsp,
    "v4l2": _camera,
}


def open_source(config: SourceConfig, taken: Collection[str] = (), capture: Capture = "thread") -> Source:
    """The source that `config.uri` names. Nothing is opened yet; SourceError if the URI cannot name a source.

    taken: the names of the other streams. A second `cam` is called `cam-2`; ConfigError if the name was given.
    capture: where it is read, unless `config` says so.
    """
    try:
        make = _KINDS[_kind(config.uri)]
        if config.user is not None and make not in {_rtsp, _web}:
            raise SourceError(f"{shown_address(config.uri)}: user and password are for network cameras; leave them out")
        source = make(config)
    except (ValueError, OSError):  # urlsplit's would tell the password
        raise SourceError(f"{shown_address(config.uri)!r}: is malformed; a source is one of: {_FORMS}") from None
    if (config.capture or capture) == "process":
        if not LINUX:
            raise needs_linux("capture: process")
        from streamer.sources.process import ProcessSource

        source = ProcessSource(source)
    distinguish(source, taken)
    return source


def distinguish(source: Source, taken: Collection[str]) -> None:
    """Give a source another name if its own is taken. ConfigError if it was given in the configuration."""
    if not (clash := [name for name in source.streams if name in taken]):
        return
    if source.config.name:
        what = "streams" if source.config.views else "sources"
        raise ConfigError(f"two {what} are called {clash[0]}; give each another name")
    longest = max(len(name) for name in source.streams) - len(source.name)
    made = source.name[: LONGEST_NAME - len("-999") - longest]
    for number in range(2, len(taken) + 3):
        source.name = f"{made}-{number}"
        if not any(name in taken for name in source.streams):
            return


def _kind(uri: str) -> str:
    if uri == "-":
        return "file"
    if uri.isdecimal() or (uri.startswith("/dev/") and not _is_file(uri)):
        return "v4l2"
    if match := _SCHEME.match(uri):
        scheme = (match[1] or match[2]).lower()
        if scheme in _KINDS:
            return scheme
        hint = did_you_mean(scheme, _KINDS, f"a source is one of: {_FORMS}", lambda kind: f"{kind}://")
        raise SourceError(f"{shown_address(uri)}: no source is called {scheme}://; {hint}")
    if uri and Path(uri).exists():
        return "file"
    raise SourceError(f"{shown_address(uri)!r}: there is no such file; a source is one of: {_FORMS}")


def _is_file(device: str) -> bool:
    """Whether this is a file or a pipe below /dev, such as /dev/shm/clip.mp4 or /dev/stdin, and no device."""
    try:
        return not stat.S_ISCHR(Path(device).stat().st_mode)
    except OSError:
        return False
