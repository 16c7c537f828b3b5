"""What can go wrong, as a tree; every message says what, where and what to do.

StreamerError            anything this package raises on purpose
|-- ConfigError          exit code 2: a key, a value, a file or an address that cannot be used
`-- SourceError          exit code 3: a camera, stream or file that cannot be read

engines.EngineError      exit code 4: a model or a runtime that cannot be used
"""

from __future__ import annotations

from typing import Literal

Retry = Literal["soon", "slow", "never"]


class StreamerError(Exception):
    """Base of the errors that this package raises on purpose."""

    exit_code = 1


class ConfigError(StreamerError):
    """A configuration that cannot be used: unknown key, wrong value, unreadable file, address in use."""

    exit_code = 2


class SourceError(StreamerError):
    """A source that cannot be opened or read.

    `retry` says what a live pipeline does next: `soon` reconnects with the usual delays (a camera that vanished),
    `slow` waits at least ten seconds (a wrong password), `never` gives up (a file that does not exist, an address that
    is malformed).
    """

    exit_code = 3

    def __init__(self, message: str, retry: Retry = "never") -> None:
        super().__init__(message)
        self.retry: Retry = retry
