"""What is told while something goes on: lines, the last of which changes in place on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text


class View:
    """What is told: lines, and below them one that changes in place if this is a terminal, lines as well if not."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_interactive else None
        self._shown = ""

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line)

    def show(self, text: str, style: str = "") -> None:
        """Tell what happens now; the same text again is not told again."""
        if text == self._shown:
            return
        self._shown = text
        if self._live:
            self._live.update(Text(text, style), refresh=True)
        else:
            self._console.print(text)
