"""Secrets of the other end: never from the command line, which other users of the machine can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from streamer.errors import ConfigError

_LONGEST = 65536  # characters


def read_secret(
    file: Path | None, variable: str, option: str, environment: Mapping[str, str] = os.environ
) -> str | None:
    """A secret from a file's only line, or from the environment; None: there is none. Raises ConfigError."""
    if file is None:
        return environment.get(variable) or None
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LONGEST).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(f"{option} {file}: cannot be read: {why}") from None
    if not text or "\n" in text:
        raise ConfigError(f"{option} {file}: must hold the secret alone, in one line")
    return text
