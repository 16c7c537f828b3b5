"""What `streamer run` shows: the news, and on a terminal, below them, a table of the streams."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from streamer.labels.messages import Message, ScoreMessage, StateMessage, StatusMessage
from streamer.labels.news import news
from streamer.sources import Source
from streamer.text import printable

DRAW_S = 0.2
BAR = 12


class TerminalView:
    """A listener of the pipeline's messages that shows them; a context manager."""

    def __init__(self, console: Console, sources: Sequence[Source], *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._sources = {name: source for source in sources for name in source.streams}
        self._names = [*self._sources]  # and those that are added later
        self._truth = any(hasattr(source, "truth") for source in sources)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._known: dict[tuple[str, str], str] = {}
        self._last: dict[tuple[str, str], Message] = {}
        self._drawn = 0.0

    def __enter__(self) -> TerminalView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def __call__(self, message: Message) -> None:
        """Show one message."""
        self._last[message.stream, message.kind] = message
        if message.stream not in self._names:
            self._names.append(message.stream)
        line = news(message, self._known, verbose=self._verbose)
        if line:
            self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        now = time.monotonic()
        if self._live and now - self._drawn >= DRAW_S:
            self._drawn = now
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        headings = ["stream", "source", "state", *(["truth"] if self._truth else []), "label in force", "score", "fps"]
        for heading in (*headings, "age ms", "step ms"):
            table.add_column(heading, no_wrap=True)
        for name in self._names:
            table.add_row(*(escape(printable(cell)) for cell in self._row(name, self._sources.get(name))))
        return table

    def _row(self, name: str, source: Source | None) -> list[str]:
        state, score, status = (self._last.get((name, kind)) for kind in ("state", "score", "status"))
        newest = score or state
        truth = getattr(source, "truth", None)
        frame_us = newest.ts.frame_us if newest else None
        told = status.source if isinstance(status, StatusMessage) else "connecting"
        cells = [name, source.uri if source else "added", told]
        if self._truth:
            cells.append(truth(frame_us) if truth and frame_us is not None else "")
        label = state.label if isinstance(state, StateMessage) else None
        scores = dict(score.topk) if isinstance(score, ScoreMessage) else {}
        value = scores.get(label, 0.0) if label else 0.0
        bar = "█" * round(BAR * value)
        cells += [f"{label or '-':24}", f"{bar:{BAR}} {value:.2f}" if label else " " * (BAR + 5)]
        fps = status.fps_in if isinstance(status, StatusMessage) else None
        step_ms = status.step_ms_p50 if isinstance(status, StatusMessage) else None
        age_ms = newest.age_ms if newest else None
        return cells + [f"{value:.1f}" if value is not None else "-" for value in (fps, age_ms, step_ms)]
