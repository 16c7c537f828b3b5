"""The one error of this package."""

from __future__ import annotations


class EngineError(Exception):
    """A model or a runtime that cannot be used; the message says what, where and what to do."""

    exit_code = 4
