from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from streamer.config import SourceConfig
from streamer.labels.events import Event, State
from streamer.labels.messages import MessageBuilder, Stamp, Window
from streamer.sources import Source, open_source
from streamer.view.terminal import TerminalView

BUILD = MessageBuilder("seeing@00", "stream", now_us=lambda: 2_000_000)
STAMP = Stamp(frame_us=1_990_000, ready=True)


def shown(*, terminal: bool, name: str = "swipe", verbose: bool = False, say: Callable[[TerminalView], None]) -> str:
    out = io.StringIO()
    source: Source = open_source(SourceConfig(uri="pattern://swipe", name=name))
    with TerminalView(Console(file=out, force_terminal=terminal, width=160), [source], verbose=verbose) as view:
        say(view)
    return out.getvalue()


def say_something(view: TerminalView) -> None:
    view(BUILD.status("swipe", STAMP, "online", fps_in=30.0))
    view(BUILD.event("swipe", STAMP, Event("start", "moving left", 1, 0.8, 0.9, 1_500_000)))
    view(BUILD.state("swipe", STAMP, State("moving left", 1, 0.8, 1_500_000)))
    view(BUILD.score("swipe", STAMP, [("moving left", 0.75)], Window(n=8, step_ms=100, first_us=0, last_us=1)))


def test_a_terminal_shows_the_label_in_force_its_score_and_the_truth_of_the_pattern() -> None:
    out = shown(terminal=True, say=say_something)
    for part in ("truth", "label in force", "moving left", "█████████", "0.75", "30.0", "start   moving left 0.90"):
        assert part in out


def test_a_pipe_gets_plain_lines_of_news() -> None:
    out = shown(terminal=False, say=say_something)
    news = ["00:00:02.000  swipe  source  online", "00:00:02.000  swipe  start   moving left 0.90"]
    assert out.splitlines() == news
    more = shown(terminal=False, verbose=True, say=say_something)
    assert more.splitlines() == [*news, "00:00:02.000  swipe  label   moving left"]


@pytest.mark.parametrize("terminal", [True, False])
def test_text_from_outside_cannot_steer_the_terminal(terminal: bool) -> None:
    out = shown(terminal=terminal, say=lambda view: view(BUILD.status("swipe", STAMP, "offline", "\x1b[2Jboo [red]")))
    assert "\x1b[2J" not in out
    assert "boo [red]" in out


def test_a_stream_that_is_added_later_gets_a_line_of_its_own() -> None:
    out = shown(terminal=True, say=lambda view: view(BUILD.status("gate", STAMP, "online", fps_in=12.5)))
    (line,) = [line for line in out.splitlines() if line.startswith("gate")][-1:]
    assert line.split() == ["gate", "added", "online", "-", "12.5", "-", "-"]
