"""The address of a network camera as FFmpeg gets it: well-formed, with user and password escaped."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from streamer.config import LONGEST_URI, SourceConfig
from streamer.errors import SourceError
from streamer.text import shown_address

_ADVICE = (
    "write SCHEME://HOST:PORT/PATH; in a password write @ as %40, / as %2F, : as %3A and # as %23, "
    "or give it as it is, with the keys user and password"
)
_MOST_CREDENTIALS = 127  # characters of FFmpeg's RTSP client, escaped; it cuts off the rest without a word


def check_address(config: SourceConfig) -> None:
    """Raise SourceError unless the address can be read in one way only: nothing of a password shall pass for a host."""
    uri = config.uri
    authority, rest = _split(uri)
    try:
        parts = urlsplit(uri)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or authority.count("@") > 1 or "@" in rest or re.search(r"[\s\0-\x1f\x7f]", uri):
        raise SourceError(f"{shown_address(uri)}: this address is malformed; {_ADVICE}")
    if config.user is not None and "@" in authority:
        raise SourceError(f"{shown_address(uri)}: has a user in the address and one as a key; give one of them")


def with_credentials(config: SourceConfig) -> str:
    """The address, with the source's user and password escaped; a password file is read anew each time.

    Raises SourceError for an address that is malformed, a file that cannot be read, what cannot be sent.
    """
    check_address(config)
    uri = config.uri
    if config.user is not None:
        scheme, _, rest = uri.partition("://")
        uri = f"{scheme}://{_escaped(config.user)}:{_escaped(_password(config))}@{rest}"
        if ":" in config.user:
            raise SourceError(f"{shown_address(uri)}: a user's name has no colon in it; check the key user")
    credentials, at, _ = _split(uri)[0].rpartition("@")
    if "\0" in credentials or "%00" in credentials:
        raise SourceError(f"{shown_address(uri)}: a NUL character cannot be sent; check the user and the password")
    if at and uri.lower().startswith("rtsp") and len(credentials) > _MOST_CREDENTIALS:
        raise SourceError(
            f"{shown_address(uri)}: user and password are too long for RTSP: {len(credentials)} characters with each "
            f"special one as %XX, {_MOST_CREDENTIALS} at most; give the camera a shorter password"
        )
    return uri


def read_password(path: Path, whose: str) -> str:
    """The password in a file, which holds nothing else. SourceError, beginning with `whose` it is."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_URI).removesuffix("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise SourceError(f"{whose}: password_file {path} cannot be read: {why}", "slow") from None
    if not text or "\n" in text:
        raise SourceError(f"{whose}: password_file {path} must hold the password alone, in one line")
    return text


def _password(config: SourceConfig) -> str:
    """The password, or the first line of its file."""
    if config.password_file:
        return read_password(config.password_file, shown_address(config.uri))
    return config.password.get_secret_value() if config.password else ""


def _split(uri: str) -> tuple[str, str]:
    """What may be user, password, host and port; and what follows."""
    rest = uri.partition("://")[2]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    return authority, rest[len(authority) :]


def _escaped(text: str) -> str:
    return quote(text, safe="!$&'()*+,;=", errors="surrogateescape")
