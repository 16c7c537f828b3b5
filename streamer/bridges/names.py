"""Labels as parts of topics and ids, which take few characters: readable, stable, and never the same for two labels."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_PLAIN = re.compile(r"[a-z0-9]+( [a-z0-9]+)*")
_MOST = 40
_DIGITS = 8


def slug(text: str) -> str:
    """The text in a-z, 0-9 and _: `moving left` is `moving_left`.

    Whatever is more than words in small letters and digits with a space between them has a piece of its SHA-256 behind
    it, since others would look alike: `Überholen!` is `uberholen_` and eight hexadecimal digits.
    """
    if _PLAIN.fullmatch(text) and len(text) <= _MOST:
        return text.replace(" ", "_")
    letters = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^a-z0-9]+", "_", letters)[:_MOST].strip("_")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{readable}_{digest}" if readable else digest
