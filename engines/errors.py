"""The one error of this package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EngineError(Exception):
    """A model or a runtime that cannot be used; the message says what, where and what to do."""

    exit_code = 4


def unknown(what: str, value: str, known: Iterable[str]) -> EngineError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = list(known)
    near = difflib.get_close_matches(value, names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return EngineError(f"unknown {what} {value!r}: {hint}known are {', '.join(names)}")
