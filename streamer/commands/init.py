"""`streamer init`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import did_you_mean
from engines.files import write_whole
from streamer.commands.options import writing
from streamer.errors import ConfigError

FILES = {
    "webcam": "webcam.yaml",
    "rtsp": "rtsp.yaml",
    "many": "many.yaml",
    "service": "streamer.service",
    "fleet": "fleet.yaml",
    "fleet-head": "fleet-head.service",
    "fleet-node": "fleet-node.service",
    "webhook": "webhook.py",
}
"""What there is to begin with, and what it is called."""


def init(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(FILES)}.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it; - is the terminal. [default: a file here]"),
    ] = None,
) -> None:
    """Write a file to begin with: a configuration (webcam, rtsp, many; fleet, for its head), a unit of systemd
    (service, fleet-head, fleet-node), a program that posts events.

    A file that is there already is left alone.
    """
    if kind not in FILES:
        hint = did_you_mean(kind, FILES, f"there are {', '.join(FILES)}")
        raise ConfigError(f"init {kind}: there is nothing of that name; {hint}")
    text = resources.files("streamer.commands").joinpath("starters", FILES[kind]).read_text(encoding="utf-8")
    path = out or Path(FILES[kind])
    if path == Path("-"):
        typer.echo(text, nl=False)
        return
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: is there already; remove it, or write elsewhere with --out")
    with writing("--out", path):
        write_whole(path, text.encode())
    installed = dict.fromkeys(("service", "fleet-head", "fleet-node"), "its head says how to install it")
    todo = {**installed, "webhook": f"while a run goes on: python {path} URL"}
    command = "fleet head" if kind == "fleet" else "run"
    typer.echo(f"wrote {path}; {todo.get(kind, f'change it, then: streamer {command} -c {path}')}")
