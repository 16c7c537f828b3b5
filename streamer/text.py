"""Text for people: without secrets, without what could steer a terminal, and with the name that was meant."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)(?:\S+|[^\s/:@]*:[^/\n]*)(?=@)")  # the second: a password with spaces in it
_SECRETS = re.compile(r"([?&](?:pass\w*|pwd|token|secret|auth|key)=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """The text, safe to show: without the user names, passwords and tokens of the addresses in it."""
    return _SECRETS.sub(r"\1***", _CREDENTIALS.sub("***", text))


def printable(text: str) -> str:
    """Escape control and format characters as JSON does; valid JSON stays valid, and the same."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
