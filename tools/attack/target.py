"""What an attack knows of the run that it attacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamer.errors import ConfigError
from tools.peers.program import Program

Needs = Literal["", "page"]


@dataclass(frozen=True)
class Target:
    """The run, a folder for what the attack needs, and when it should end, by the monotonic clock."""

    program: Program
    folder: Path
    ends: float

    def moments(self, every_s: float = 0.01) -> Iterator[None]:
        """Again and again until the end; at least once."""
        yield
        while time.monotonic() < self.ends and self.program.exit_code() is None:
            time.sleep(every_s)
            yield

    def add(self, uri: str, name: str) -> bool:
        """Add a source to the run; whether it was taken."""
        with suppress(ConfigError):
            self.program.ask("add", source={"uri": uri, "name": name})
            return True
        return False

    def remove(self, name: str) -> None:
        """Take it out again, if it has not left by itself."""
        with suppress(ConfigError):
            self.program.ask("remove", stream=name)


Play = Callable[[Target], list[str] | None]
"""Does the harm; what it achieved, each in a sentence."""


@dataclass(frozen=True)
class Attack:
    """A row: `about` it in a line; `play` it, which gives what it achieved."""

    name: str
    about: str
    play: Play
    needs: Needs = ""
