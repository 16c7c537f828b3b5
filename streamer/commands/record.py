"""`streamer record`."""

from __future__ import annotations

import math
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamer.errors import ConfigError


def number(value: float) -> float:
    """A number of seconds as it was given; `nan` passes every range."""
    if math.isnan(value):
        raise typer.BadParameter("nan is no number of seconds")
    return value


OutOption = Annotated[Path, typer.Option(metavar="FOLDER", help="Of all labels, with a folder for each.")]
SourceOption = Annotated[str, typer.Option(metavar="SOURCE", help="As for `streamer run`; 0 is the first webcam.")]
ClipsOption = Annotated[int, typer.Option(min=1, metavar="N", help="How many clips.")]
SecondsOption = Annotated[float, typer.Option(min=0.1, max=3600, metavar="S", callback=number, help="Of a clip.")]
CountdownOption = Annotated[float, typer.Option(min=0, max=3600, metavar="S", callback=number, help="Before a clip.")]
PauseOption = Annotated[float, typer.Option(min=0, max=3600, metavar="S", callback=number, help="After a clip.")]

INTERRUPTED = 130
"""The exit code after Ctrl-C, where something was left undone."""


def record(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What the clips show; their folder is called so.")],
    source: SourceOption = "0",
    out: OutOption = Path("clips"),
    clips: ClipsOption = 10,
    seconds: SecondsOption = 3.0,
    countdown: CountdownOption = 3.0,
    pause: PauseOption = 1.0,
) -> None:
    """Record labelled clips, to teach a model actions of your own.

    Counts down, records a clip, pauses, and so on. A file is cut as fast as it can be read: with --countdown 0
    --pause 0 into clips that follow one another without a gap.
    """
    try:
        record_clips(label, source, out, clips, seconds, countdown, pause)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def record_clips(
    label: str,
    source: str,
    out: Path,
    clips: int = 10,
    seconds: float = 3.0,
    countdown: float = 3.0,
    pause: float = 1.0,
) -> None:
    """Record, and tell what is there then and what comes next. ConfigError or SourceError if not one clip is whole."""
    from rich.console import Console

    from streamer.teaching.recorder import Plan, Recorder, open_for_recording, writing_clips
    from streamer.teaching.recorder import record as record_source
    from streamer.teaching.telling import View

    console = Console(markup=False, highlight=False, soft_wrap=True)
    stop, view = threading.Event(), View(console)
    recorder = Recorder(out, label, Plan(clips, seconds, countdown, pause), view, stop)
    opened = open_for_recording(source)
    with writing_clips(out):
        out.mkdir(parents=True, exist_ok=True)
    try:
        with view:
            record_source(opened, recorder, view, stop)
        if not recorder.kept:
            raise ConfigError(f"{opened.uri}: not one clip of {seconds:g} s was whole; try --seconds with less")
    finally:
        console.print(f"recorded {recorder.kept} of {clips} clips of {label}")
        if recorder.kept:
            for line in summary(out):
                console.print(line)


def summary(out: Path) -> Iterator[str]:
    """How many clips of each label there are, and what to do next."""
    from streamer.teaching.folder import labels_in

    found = labels_in(out)
    yield f"in {out}:"
    for label, clips in found.items():
        yield f"  {len(clips):4} {'clip' if len(clips) == 1 else 'clips'} of {label}"
    if len(found) < 2:
        yield "next, record another label: a model needs two or more, one of them for no action: nothing"
    else:
        yield f"next: streamer teach {shlex.quote(str(out))}"
