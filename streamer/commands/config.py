"""`streamer config`."""

from __future__ import annotations

import typer

from streamer.commands.options import ConfigOption, SetOption, make_settings


def show_config(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the effective configuration, and where each value came from."""
    for line in make_settings(config, set_).lines():
        typer.echo(line)
