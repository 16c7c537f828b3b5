"""`streamer replay`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.options import (
    BackendOption,
    ConfigOption,
    ModelOption,
    SetOption,
    check_kinds,
    make_engine,
    make_settings,
    make_sources,
)
from streamer.errors import ConfigError, SourceError
from streamer.labels.messages import KINDS, Message, encode


def replay(
    file: Annotated[list[str], typer.Argument(metavar="FILE...", help="Video files (or pattern:// with a duration).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the messages go, one JSON object a line; - is the terminal.")
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
    """Run files through the model, every frame, as fast as it goes; write their events, or draw them into a video.

    The same file gives the same bytes every time.
    """
    from streamer.pipeline.replay import replay as replay_source
    from streamer.view.render import open_render

    if out is None and render is None:
        raise ConfigError("replay needs --out FILE for the messages or --render FILE for a video")
    kinds = check_kinds(kind) or ("event", "gap")
    entries = [{"uri": uri, "pace": "fast"} for uri in file]
    settings = make_settings(config, set_, sources=entries, model=model, backend=backend).config
    sources = make_sources(settings)
    for source in sources:
        if source.live:
            raise SourceError(f"{source.uri}: is live and never ends; replay takes files, run takes cameras")
    engine = make_engine(settings)
    with ExitStack() as stack:
        stack.callback(engine.close)
        try:
            target = sys.stdout.buffer if str(out) == "-" else stack.enter_context((out or Path(os.devnull)).open("wb"))
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
        video = stack.enter_context(open_render(render, sources)) if render else None

        def write(message: Message) -> None:
            if message.kind in kinds:
                target.write(encode(message) + b"\n")
            if video:
                video(message)

        for source in sources:
            stream = replay_source(source, engine, settings, write, *([video.frame] if video else []))
            damage = f", {source.corrupt} damaged" if source.corrupt else ""
            typer.echo(f"{source.uri}: {stream.inferred} frames inferred, {stream.started} events{damage}", err=True)
            for spell in stream.slowness.spells.values():
                typer.echo(spell, err=True)
        target.flush()
