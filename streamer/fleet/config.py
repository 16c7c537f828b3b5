"""fleet.yaml: what the head of a fleet obeys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from streamer.config import ONE_OR_MORE, Config, CurveConfig, PublishConfig, Section, Since, SourceConfig
from streamer.errors import ConfigError
from streamer.labels.commands import Written, read_source
from streamer.settings import explain, read_file
from streamer.sources import open_source
from streamer.sources.base import stream_name

AT = "127.0.0.1:6380"
OURS = ("sources", "publish", "control", "control_curve", "node", "rows", "duration_s")
"""Keys of a run that its fleet sets."""
_KEY, _VALUE, _MOST_LABELS = r"[a-z0-9_-]{1,32}", r"[A-Za-z0-9_.-]{1,64}", 16
Near = dict[Annotated[str, Field(pattern=f"^{_KEY}$")], Annotated[str, Field(pattern=f"^{_VALUE}$")]]
"""Labels of nodes, and what a source would be near to."""


class FleetSource(SourceConfig):
    """A source as of `streamer run`, or its address alone, and where it should be."""

    near: Annotated[Near, Field(max_length=_MOST_LABELS), Since("0.2.0")] = Field(default_factory=dict)
    """Labels of the nodes that come first, such as `{site: north}`; if they have no room, others do."""

    @property
    def called(self) -> str:
        """Its name, or one that is made from its address."""
        return self.name or stream_name(self.uri)

    @property
    def streams(self) -> list[str]:
        """The names of its streams."""
        return [f"{self.called}-{view}" for view in self.views] or [self.called]


class FleetConfig(Section):
    """Everything that `streamer fleet head` obeys."""

    sources: Annotated[tuple[FleetSource, ...], ONE_OR_MORE, Since("0.2.0")] = ()
    """The cameras of all nodes."""
    labels: Annotated[str, Since("0.2.0")] = str(PublishConfig().address)
    """Where the labels of all nodes are published."""
    curve: Annotated[CurveConfig | None, Since("0.2.0")] = None
    """Encryption of `labels`; null: plain text. Between nodes and head it is always on."""
    at: Annotated[str, Since("0.2.0")] = AT
    """HOST:PORT that nodes join. With 127.0.0.1 only those of this machine can."""
    folder: Annotated[Path, Since("0.2.0")] = Path("fleet")
    """Where the head keeps what it must not forget, its keys, and the token that nodes need. For its user alone."""
    run: Annotated[Config, Since("0.2.0")] = Config()
    """What the runs of all nodes obey, as in a configuration of `streamer run`: model, events, clips. A node's own file
    (`fleet join -c`) comes before it."""

    @field_validator("run")
    @classmethod
    def _not_ours(cls, run: Config) -> Config:
        if clash := [key for key in OURS if key in run.model_fields_set]:
            raise ValueError(f"{clash[0]} of a node's run is set by its fleet; leave it out")
        return run


def load_fleet(file: Path | None, **options: Any) -> tuple[FleetConfig, dict[str, Any]]:
    """The configuration, and what it says of nodes' runs, as it was written. Options that are None were not given.

    Raises ConfigError in one sentence, as `load_settings` does, or SourceError.
    """
    tree = read_file(file) if file else {}
    given = {key: value for key, value in options.items() if value is not None}
    origins = {key: str(file) for key in tree} | dict.fromkeys(given, "command line")
    try:
        config = FleetConfig.model_validate({**tree, **given})
    except ValidationError as error:
        raise ConfigError("; ".join(explain(one, origins, FleetConfig) for one in error.errors())) from None
    check_names(config.sources)
    for source in config.sources:
        check_address(source)
    run = tree.get("run")
    return config, run if isinstance(run, dict) else {}


def host_and_port(text: str) -> tuple[str, int] | None:
    """The parts of HOST:PORT where nodes join; None if it is not so."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return host, int(port)


def near_labels(option: str, given: Iterable[str] | None) -> dict[str, str]:
    """The labels of an option that is written as KEY=VALUE, again and again. Raises ConfigError."""
    labels: dict[str, str] = {}
    for text in given or ():
        key, _, value = text.partition("=")
        if not re.fullmatch(_KEY, key) or not re.fullmatch(_VALUE, value):
            raise ConfigError(
                f"{option} {text[:100]!r}: write it as KEY=VALUE, such as {option} site=north, with at most 32 of a-z, "
                "0-9, _ and -, and at most 64 of letters, digits, _, . and -"
            )
        if key in labels:
            raise ConfigError(f"{option} {text}: {key} is {labels[key]} already; a label has one value")
        labels[key] = value
    if len(labels) > _MOST_LABELS:
        raise ConfigError(f"{option}: {len(labels)} are given, and {_MOST_LABELS} are allowed")
    return labels


def fleet_source(source: Written) -> FleetSource:
    """A source of `fleet add`. Raises ConfigError."""
    return read_source(source, FleetSource, FleetConfig)


def check_address(source: FleetSource) -> None:
    """Raise SourceError for an address that no node can read. Whether there is such a file or camera, a node tells."""
    scheme, separator, _ = source.uri.partition("://")
    if separator and scheme not in ("file", "http", "https", "rtsp", "rtsps"):
        open_source(source)


def check_names(sources: Iterable[FleetSource]) -> None:
    """Raise ConfigError if two sources, or their streams, have one name."""
    taken: set[str] = set()
    for source in sources:
        for name in {source.called, *source.streams}:
            if name in taken:
                raise ConfigError(f"two sources are called {name}; give each another name")
        taken |= {source.called, *source.streams}
