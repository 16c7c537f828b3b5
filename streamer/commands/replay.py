"""`streamer replay`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.files import replacing
from streamer.commands.options import (
    BackendOption,
    ConfigOption,
    ModelOption,
    SetOption,
    check_kinds,
    check_output,
    make_engine,
    make_settings,
    make_sources,
    model_files,
    writing,
)
from streamer.config import Config
from streamer.errors import ConfigError, SourceError
from streamer.labels.messages import KINDS, Message, encode
from streamer.labels.news import news
from streamer.sources import Source
from streamer.text import counted, printable

if TYPE_CHECKING:
    from streamer.pipeline.stream import Stream

_TERMINAL = Path("-")

EXAMPLES = """\b
Examples:
  streamer replay clip.mp4                       # its events, with times since the first frame
  streamer replay clip.mp4 --out events.jsonl    # as messages
  streamer replay clip.mp4 --render out.mp4      # a video with labels drawn in
  streamer replay clip.mp4 --set events.enter=0.8    # to try a threshold
"""


def replay(
    file: Annotated[list[str], typer.Argument(metavar="FILE...", help="Video files (or pattern:// with a duration).")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the messages here, one JSON object a line; - is the terminal. Otherwise the events are printed."
        ),
    ] = None,
    render: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the video with its labels drawn in, such as out.mp4.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Which of {', '.join(KINDS)}; repeatable. [default: event, gap]")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
) -> None:
    """Run files through the model, every frame, as fast as it goes; print their events, write them, or draw them.

    Times count from the first frame. The same file gives the same bytes every time.
    """
    from streamer.pipeline.replay import replay as replay_source
    from streamer.view.render import open_render

    kinds = check_kinds(kind) or ("event", "gap")
    entries = [{"uri": uri, "pace": "fast"} for uri in file]
    settings = make_settings(config, set_, sources=entries, model=model, backend=backend).config
    sources = make_sources(settings)
    check_sources(sources)
    check_outputs(out, render, sources, config, settings)
    engine = make_engine(settings)
    with ExitStack() as stack:
        stack.callback(engine.close)
        video = stack.enter_context(open_render(render, sources)) if render else None
        tell = stack.enter_context(open_out(out, verbose="state" in kinds))

        def send(message: Message) -> None:
            if message.kind in kinds:
                tell(message)
            if video:
                video(message)

        for source in sources:
            streams = replay_source(source, engine, settings, send, *([video.frame] if video else []))
            sum_up(source, streams)


def sum_up(source: Source, streams: Sequence[Stream]) -> None:
    """Say on standard error what came of a file."""
    inferred, started = sum(stream.inferred for stream in streams), sum(stream.started for stream in streams)
    told = [f"{counted(inferred, 'frame')} inferred", counted(started, "event")]
    told += [f"{source.corrupt} damaged"] * bool(source.corrupt)
    typer.echo(f"{source.uri}: {', '.join(told)}", err=True)
    for spell in streams[0].slowness.spells.values():  # the same for all of its views
        typer.echo(spell, err=True)


def check_sources(sources: Sequence[Source]) -> None:
    """Raise SourceError for a source that never ends, ConfigError for one that is to be read at its own pace."""
    for source in sources:
        if source.live:
            raise SourceError(f"{source.uri}: is live and never ends; replay takes files, run takes cameras")
        if source.config.pace != "fast":
            raise ConfigError("replay reads files as fast as it goes; leave out sources.N.pace")


def check_outputs(
    out: Path | None, render: Path | None, sources: Sequence[Source], config: Path | None, settings: Config
) -> None:
    """Raise ConfigError if one of the outputs is another file of this replay."""
    replayed = [source.path for source in sources if source.path]
    others = [*([config] if config else []), *model_files(settings)]
    for option, path in (
        ("--out", Path(f"/dev/fd/{sys.stdout.fileno()}") if out == _TERMINAL else out),
        ("--render", render),
    ):
        if path:
            check_output(option, path, replayed, "replayed")
            check_output(option, path, others)
    if out and render:
        check_output("--render", render, [out], "given with --out")


@contextmanager
def open_out(out: Path | None, *, verbose: bool = False) -> Iterator[Callable[[Message], object]]:
    """Where messages go: a file that takes its place when all are written, or the terminal, as JSON or as news."""
    if out is None:
        known: dict[tuple[str, str], str] = {}
        yield lambda message: _print(news(message, known, verbose=verbose))
    elif out == _TERMINAL:
        yield lambda message: sys.stdout.buffer.write(encode(message) + b"\n")
        sys.stdout.buffer.flush()
    else:
        with writing("--out", out), replacing(out) as draft, draft.open("wb") as file:
            yield lambda message: file.write(encode(message) + b"\n")


def _print(line: str) -> None:
    if line:
        typer.echo(printable(line))
