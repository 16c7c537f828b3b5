"""What several commands share: options, and what is made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines import Engine
from engines.files import same_file
from engines.loading import find_model
from engines.spec import EngineSpec, read_spec
from streamer.config import Config, PublishConfig
from streamer.errors import ConfigError
from streamer.labels.messages import KINDS, Kind
from streamer.pipeline import exchange
from streamer.settings import Settings, load_settings
from streamer.sources import Source, open_source
from streamer.system import check_system

if TYPE_CHECKING:
    from streamer.labels.curve import Curve

LABELS = str(PublishConfig().address)
"""Where labels are published and read, unless an address is given."""

SourceArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="0 or /dev/video0 (webcam), rtsp://HOST/PATH, http://HOST/PATH (MJPEG), a video file, or pattern://swipe.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("-c", "--config", help="A YAML file; `streamer init` writes one.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any configuration value, such as events.enter=0.7; repeatable."
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="A model's name or file; `streamer models` lists the names.")
]
BackendOption = Annotated[
    str | None, typer.Option(metavar="BACKEND", help="auto, openvino (CPU), tensorrt (GPU), eager (torch) or scripted.")
]
AddressArgument = Annotated[str, typer.Argument(help="Where labels are published.")]
VerboseOption = Annotated[
    bool, typer.Option("-v", "--verbose", help="Also each change of the label in force, and updates of events.")
]
ServerKeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For a run that encrypts: its public key, NAME.key.")
]
KeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For a run that encrypts: your secret key, NAME.key_secret.")
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        help="What viewers must bring; STREAMER_VIEW__TOKEN keeps it from other users of this machine. "
        "[default: none on 127.0.0.1, a new one elsewhere]",
        show_default=False,
    ),
]


def make_settings(file: Path | None, sets: Sequence[str] | None, **options: Any) -> Settings:
    """The layers of configuration; options that are None were not given."""
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    return load_settings(file, os.environ, sets or (), given)


def make_engine(config: Config) -> Engine:
    """The model on its backend."""
    rows = sum(source.rows for source in config.sources)
    return exchange.make_engine(config, config.model, max(rows, config.rows or 0))


def make_sources(config: Config) -> list[Source]:
    """The sources, each with a name of its own. ConfigError, also for what this system lacks."""
    check_system(config)
    if not config.sources and not config.node:
        raise ConfigError("no source is given; name one, such as `streamer run 0` for a webcam or pattern://swipe")
    sources: list[Source] = []
    for source in config.sources:
        sources.append(open_source(source, {name for other in sources for name in other.streams}, config.capture))
    return sources


def check_output(option: str, out: Path, inputs: Iterable[Path], what: str = "read") -> None:
    """Raise ConfigError if the output is one of the inputs, whatever its name: a slip shall not cost a recording."""
    for path in inputs:
        if same_file(out, path):
            raise ConfigError(f"{option} {out}: this is the file that is {what}; give another name")


@contextmanager
def writing(option: str, out: Path) -> Iterator[None]:
    """What goes wrong while an output is written becomes a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{option} {out}: cannot be written: {error.strerror or error}") from error


def model_spec(config: Config) -> EngineSpec | None:
    """The model's sidecar, without a look at the model; None for a script of scores, which has none."""
    return None if config.model.endswith(".scores.json") else read_spec(find_model(config.model))


def model_files(config: Config) -> list[Path]:
    """What is read of a model: its sidecar and the files that this names, or the script of scores."""
    path, spec = find_model(config.model), model_spec(config)
    return [path.with_suffix(".json"), *(path.parent / name for name in spec.files)] if spec else [path]


def make_curve(server_key: Path | None, key: Path | None) -> Curve | None:
    """The keys of --server-key and --key; None without both."""
    from streamer.labels.curve import Curve

    if server_key and key:
        return Curve(server_key, key)
    if server_key or key:
        raise ConfigError("--server-key and --key belong together; give the run's public key and your secret key")
    return None


def check_kinds(kinds: Sequence[str] | None) -> tuple[Kind, ...] | None:
    """Kinds of messages by name; None if none were given."""
    for kind in kinds or ():
        if kind not in KINDS:
            raise ConfigError(f"--kind {kind}: there is no such kind; known are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds) if kinds else None
