"""`streamer config`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated

import typer

from engines import EngineError
from engines.errors import did_you_mean
from streamer.commands.keys import described
from streamer.commands.options import ConfigOption, SetOption, make_settings, model_spec
from streamer.errors import ConfigError
from streamer.labels.events import PRESETS, resolved, suited
from streamer.settings import Settings, leaves, written

_log = logging.getLogger(__name__)


def show_config(
    key: Annotated[
        str, typer.Argument(help="Only this key, or those below it, such as events.", show_default=False)
    ] = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print what every key does, its default and its values instead.")
    ] = False,
) -> None:
    """Print the effective configuration, and where each value came from."""
    for line in described(key) if describe else below(key, with_model(make_settings(config, set_)).lines()):
        typer.echo(line)


def below(path: str, lines: Iterable[str]) -> list[str]:
    """The lines of settings whose path is this one, or below it. Raises ConfigError if there are none."""
    told = [(line.partition(": ")[0], line) for line in lines]
    chosen = [line for known, line in told if f"{known}.".startswith(f"{path}." if path else "")]
    if not chosen:
        hint = did_you_mean(path, [known for known, _ in told], "`streamer config` lists them all")
        raise ConfigError(f"{path}: there is no such key; {hint}")
    return chosen


def with_model(settings: Settings) -> Settings:
    """The settings with what the preset and the model's sidecar say of events. A model that is not there says nothing,
    which is told.
    """
    mine = events = settings.config.events
    name = ""
    try:
        if spec := model_spec(settings.config):
            events, name = suited(mine, spec.events, spec.name), spec.name
    except EngineError as error:
        _log.warning("what the model tells of events is not among these: %s", error)
    own, given = (dict(leaves({"events": one.model_dump(exclude_unset=True)})) for one in (mine, events))
    of_preset = {("events", key) for key in PRESETS[events.preset]} - given.keys()
    told: dict[tuple[str, ...], str] = dict.fromkeys(of_preset, f"preset {events.preset}")
    told |= dict.fromkeys(given.keys() - own.keys(), f"sidecar of {name}")
    origins = {**settings.origins, **{written(keys): origin for keys, origin in told.items()}}
    return Settings(settings.config.model_copy(update={"events": resolved(events)}), origins)
