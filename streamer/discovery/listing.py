"""What was found, as `sources` of a configuration, to be pasted. Nothing in it is a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import yaml

from streamer.config import LONGEST_NAME
from streamer.discovery.found import Mode, NetworkCamera, Stream, Webcam
from streamer.sources.base import stream_name
from streamer.text import holds_secret, printable, shown_address

ENOUGH_PX = 360
"""Of the shorter side of a picture: models look at less, and more costs decoding."""


def listing(
    webcams: Sequence[Webcam], cameras: Sequence[NetworkCamera], user: str | None = None, password: Path | None = None
) -> Iterator[str]:
    """The lines.

    user      of the network cameras
    password  the file that holds the password; without one, the environment will
    """
    names: set[str] = set()
    yield "sources:"
    for number, webcam in enumerate(webcams):
        yield from _webcam(webcam, number, names)
    number = len(webcams)
    for camera in cameras:
        yield f"  # {camera.name or 'a camera'} at {shown_address(camera.url)}"
        open_ones = [stream for stream in camera.streams if not holds_secret(stream.uri)]
        chosen = min(open_ones, key=lambda stream: _cost(stream.mode), default=None)
        if chosen:
            yield f"  - uri: {_scalar(chosen.uri)}    # {_told(chosen)}"
            yield f"    name: {_new_name(camera.name or stream_name(camera.url), names)}"
            yield from _login(user, password, number)
            number += 1
        for stream in camera.streams:
            if stream is not chosen:
                yield _other(stream)


def _webcam(webcam: Webcam, number: int, names: set[str]) -> Iterator[str]:
    yield f"  # {webcam.name or 'a webcam'}, {printable(str(webcam.device.resolve()))}"
    for form, modes in groupby(webcam.modes, lambda mode: mode.format):
        yield f"  #   {form}: {', '.join(str(mode).removeprefix(form).strip() for mode in modes)}"
    yield f"  - uri: {_scalar(str(webcam.device))}"
    yield f"    name: {_new_name(webcam.name or f'webcam-{number}', names)}"
    if mode := min(webcam.modes, key=_cost, default=None):
        yield f"    width: {mode.width}"
        yield f"    height: {mode.height}"


def _login(user: str | None, password: Path | None, number: int) -> Iterator[str]:
    if user is not None:
        yield f"    user: {_scalar(user)}"
        if password:
            yield f"    password_file: {_scalar(str(password.absolute()))}"
        else:
            yield f"    # password: set STREAMER_SOURCES__{number}__PASSWORD, or write password_file: and a path here"


def _other(stream: Stream) -> str:
    """A stream that was not chosen, as a comment."""
    if holds_secret(stream.uri):
        return f"  # {shown_address(stream.uri)}    # {_told(stream)}; not shown whole, as it may hold a password"
    return f"  # uri: {_scalar(stream.uri)}    # {_told(stream)}"


def _told(stream: Stream) -> str:
    return f"{stream.name or 'a stream'}: {stream.mode}".removesuffix(": ")


def _cost(mode: Mode) -> tuple[bool, int]:
    """The less, the better: the smallest picture that is large enough, else the largest."""
    enough = min(mode.width, mode.height) >= ENOUGH_PX
    return not enough, mode.width * mode.height * (1 if enough else -1)


def _scalar(text: str) -> str:
    """A text as YAML, in one line."""
    return yaml.safe_dump(text, width=100_000, allow_unicode=True).removesuffix("\n").removesuffix("\n...")


def _new_name(text: str, names: set[str]) -> str:
    """The name of a stream made of a text, [a-z0-9_-]{1,64}; another one if it is taken."""
    stem = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[: LONGEST_NAME - len("-999")] or "camera"
    name = next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))) if name not in names)
    names.add(name)
    return name
