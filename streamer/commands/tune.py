"""`streamer tune`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml
from rich.console import Console

from engines import Engine
from engines.files import write_whole
from engines.loading import WEIGHTS, find_model
from engines.spec import check_spec, read_spec, write_spec
from streamer.commands.options import (
    BackendOption,
    ConfigOption,
    ModelOption,
    SetOption,
    check_output,
    make_engine,
    make_settings,
    model_files,
    writing,
)
from streamer.config import Config, EventConfig
from streamer.errors import ConfigError
from streamer.labels.events import suited
from streamer.teaching.telling import View
from streamer.text import counted, printable
from streamer.tuning import choosing
from streamer.tuning.choosing import Choice, Truths
from streamer.tuning.listening import listen
from streamer.tuning.picture import curve as draw_curve
from streamer.tuning.report import report, sum_up
from streamer.tuning.truth import Recording, read_truth

OVERRULING = ("preset", "enter", "leave", "unknown")  # of the user's, which count more than what a sidecar tells


def tune(
    truth: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRUTH...",
            help="CSV files with the columns file,label,start_s,end_s, or folders with one of clips for each label.",
        ),
    ],
    false_per_hour: Annotated[
        float, typer.Option(metavar="NUMBER", min=0, max=1e5, help="False events an hour that may be, of all labels.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Write them here, for -c; otherwise they are printed.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw false events an hour against what is found.")
    ] = None,
    into_model: Annotated[
        bool, typer.Option("--into-model", help="Write them into the model's sidecar, for every run of the model.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
) -> None:
    """Find the thresholds of events from recordings in which somebody wrote down what happens.

    A line of a CSV file with the file alone names a recording in which nothing happens.
    """
    settings = make_settings(config, set_, model=model, backend=backend).config
    sidecar = find_sidecar(settings) if into_model else None
    with View(Console(stderr=True, highlight=False, markup=False, soft_wrap=True)) as view:
        engine = make_engine(settings)
        try:
            recordings = [recording for path in truth for recording in read_truth(path, engine.spec.labels)]
            check_recordings(recordings)
            read = [*truth, *(one.path for one in recordings), *model_files(settings), *([config] if config else [])]
            for option, path in (("--out", out), ("--curve", curve)):
                if path:
                    check_output(option, path, [*read, *([out] if out and option == "--curve" else [])])
            truths = hear(recordings, engine, settings, view)
            choice = choose(truths, false_per_hour, view)
        finally:
            engine.close()
    summary = sum_up(truths, choice)
    for line in report(truths, choice, false_per_hour, summary):
        typer.echo(line, err=True)
    if curve:
        with writing("--curve", curve):
            write_whole(curve, picture(truths, choice, engine.spec.version).encode())
    write(as_yaml(settings.events, choice.config, f"{engine.spec.version}: {summary}"), choice.config, sidecar, out)


# ------------------------------------------------------------------------------------------------------------ inputs


def find_sidecar(settings: Config) -> Path | None:
    """The sidecar to write into; None, which is told, for that of a shipped model. Raises ConfigError if it cannot be
    written, before any work is done.
    """
    if settings.model.endswith(".scores.json"):
        raise ConfigError(f"--into-model {settings.model}: a script of scores has no sidecar; give --out FILE.yaml")
    sidecar = find_model(settings.model).with_suffix(".json")
    if overruling := [key for key in OVERRULING if key in settings.events.model_fields_set]:
        raise ConfigError(
            f"--into-model: the configuration sets events.{overruling[0]}, which overrules what a sidecar tells: "
            "leave it out, or give --out FILE.yaml"
        )
    if sidecar.resolve().parent == WEIGHTS.resolve():
        typer.echo(
            f"{settings.model} is shipped with this program and stays as it is; the thresholds come as YAML, for "
            "`streamer run -c`",
            err=True,
        )
        return None
    read_spec(sidecar)
    with writing("--into-model", sidecar), sidecar.open("r+b"):
        return sidecar


def check_recordings(recordings: Sequence[Recording]) -> None:
    """Raise ConfigError for recordings from which nothing can be learned."""
    paths = [recording.path.resolve() for recording in recordings]
    if twice := next((path for number, path in enumerate(paths) if path in paths[:number]), None):
        raise ConfigError(f"{twice}: is named twice; say of each recording once what happens in it")
    if not any(recording.segments for recording in recordings):
        raise ConfigError(
            "nothing happens in these recordings, so nothing can be found in them; add some of what the model knows"
        )


def hear(recordings: Sequence[Recording], engine: Engine, settings: Config, view: View) -> Truths:
    """Run the recordings through the model. Raises SourceError and ConfigError."""
    heard = []
    for number, recording in enumerate(recordings, 1):
        view.show(f"listening to {printable(recording.path.name)}, {number} of {len(recordings)}")
        heard.append(listen(recording, engine, settings))
        if not len(heard[-1].times_us):
            view.say(f"{printable(str(recording.path))}: is too short for an answer of the model, which needs "
                     f"{engine.spec.frames} frames at {engine.spec.rate_hz:g} a second")  # fmt: skip
    spec = engine.spec
    truths = Truths(heard, spec.labels, suited(settings.events, spec.events, spec.name))
    if not truths.segments.any():
        raise ConfigError("only background labels happen in these recordings, and they make no events; add others")
    if not any(len(one.times_us) for one in heard):
        raise ConfigError("all of these recordings are too short for an answer of the model; give longer ones")
    return truths


def choose(truths: Truths, false_per_hour: float, view: View) -> Choice:
    """The thresholds, with lines about the work."""
    ways = list(dict.fromkeys(choosing.unknowns(truths)))
    count = 0

    def tried() -> None:
        nonlocal count
        count += 1
        view.show(f"trying thresholds, {count} of {len(ways)}")

    return choosing.choose(truths, false_per_hour, tried)


# ----------------------------------------------------------------------------------------------------------- outputs


def picture(truths: Truths, choice: Choice, version: str) -> str:
    """The curve as SVG."""
    found = choice.matching
    recall = len(found.hits) / int(truths.segments.sum())
    labels = {
        label: choosing.label_curve(truths, choice.table, column)
        for column, label in enumerate(truths.labels)
        if truths.segments[column]
    }
    title = f"{version}, {counted(int(truths.segments.sum()), 'action')} in {60 * truths.hours:.0f} minutes"
    chosen = (len(found.false) / truths.hours, recall)
    return draw_curve(title, choosing.frontier(truths, choice.table), chosen, labels)


def as_values(config: EventConfig) -> dict[str, Any]:
    """What was chosen, as keys of `events`."""
    labels = {label: rule.model_dump(exclude_none=True) for label, rule in config.labels.items()}
    return {"unknown": config.unknown, "labels": labels}


def as_yaml(mine: EventConfig, config: EventConfig, summary: str) -> str:
    """A configuration file: the user's own settings of events and what was chosen."""
    events = {**mine.model_dump(mode="json", exclude_unset=True), **as_values(config)}
    text = yaml.safe_dump({"events": events}, sort_keys=False, allow_unicode=True)
    return f"# by streamer tune for {printable(summary)}\n{text}"


def write(content: str, config: EventConfig, sidecar: Path | None, out: Path | None) -> None:
    """Put what was chosen into the sidecar, into a file, or on the terminal. Raises ConfigError."""
    if sidecar:
        try:
            write_into(sidecar, config)
        except ConfigError:
            typer.echo(content, nl=False)  # so that the work is not lost
            raise
        typer.echo(
            f"wrote {sidecar}: every run of the model obeys it, where the configuration says nothing else", err=True
        )
    if out:
        with writing("--out", out):
            write_whole(out, content.encode())
        typer.echo(f"wrote {out}: try `streamer run 0 -c {out}`", err=True)
    elif not sidecar:
        typer.echo(content, nl=False)


def write_into(sidecar: Path, config: EventConfig) -> None:
    """Put what was chosen into a sidecar. Raises ConfigError if it cannot be written."""
    spec = read_spec(sidecar)
    values = {key: value for key, value in as_values(config).items() if value is not None}
    kept = {key: value for key, value in spec.events.items() if key != "unknown"}
    spec = msgspec.structs.replace(spec, events={**kept, **values})
    check_spec(spec)
    with writing("--into-model", sidecar):
        write_spec(sidecar, spec)
