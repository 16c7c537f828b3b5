"""Where configuration comes from: defaults < file < environment < command line, and who said what."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from engines.errors import did_you_mean
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.text import redact

PREFIX = "STREAMER_"
DEFAULT = "default"


@dataclass(frozen=True)
class Settings:
    """The effective configuration, and the origin of each value that is not a default, by its dotted path."""

    config: Config
    origins: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """`path: value  # origin` for every value, without the passwords in addresses."""
        tree = self.config.model_dump(mode="json")
        tree["sources"] = {str(index): source for index, source in enumerate(tree["sources"])}
        for path, value in leaves(tree):
            shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
            yield f"{path}: {redact(shown)}  # {origin(path, self.origins)}"


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge all layers and validate the result.

    file         YAML, as in configs/
    environment  STREAMER_MODEL=..., STREAMER_PUBLISH__ADDRESS=...: two underscores go one level down, values are YAML
    assignments  `--set a.b=c`, values are YAML; sources.0.transport=udp reaches into a list
    options      the command line's own options, by dotted path

    Raises ConfigError in one sentence: the path, where it came from, what is wrong, and the nearest valid key.
    """
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = [*file_values(file), *environment_values(environment), *assigned_values(assignments)]
    layers += [(path, value, "command line") for path, value in (options or {}).items()]
    for path, value, source in layers:
        put(tree, path.split("."), value, path, source)
        origins = {known: told for known, told in origins.items() if not f"{known}.".startswith(f"{path}.")}
        origins[path] = source
    try:
        return Settings(Config.model_validate(tree), origins)
    except ValidationError as error:
        raise ConfigError("; ".join(explain(problem, origins) for problem in error.errors())) from error


Value = tuple[str, Any, str]
"""A dotted path, its value, its origin."""


def file_values(path: Path | None) -> list[Value]:
    """What a YAML file says, by leaf."""
    if path is None:
        return []
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict | None):
        raise ConfigError(f"configuration file {path} must hold keys and values, such as `model: default`")
    return [(key, value, str(path)) for key, value in leaves(content or {})]


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent loss of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A dict; raises ConstructorError for a repeated key."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                mark = node.value[index][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


def environment_values(environment: Mapping[str, str]) -> list[Value]:
    """What STREAMER_ variables say."""
    mine = sorted(name for name in environment if name.startswith(PREFIX))
    return [
        (name.removeprefix(PREFIX).lower().replace("__", "."), parse(environment[name], name), f"environment {name}")
        for name in mine
    ]


def assigned_values(assignments: Sequence[str]) -> list[Value]:
    """What `--set` says."""
    values = []
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {redact(text)}: write it as key=value, such as --set events.enter=0.7")
        values.append((path.strip(), parse(value, f"--set {path}"), f"command line --set {path}"))
    return values


def parse(text: str, where: str) -> Any:
    """One YAML value."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {redact(text)!r} is not a YAML value") from error


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All values below a mapping by dotted path; lists and empty mappings are values."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def put(tree: Any, keys: Sequence[str], value: Any, path: str, source: str) -> None:
    """Set the value at a path; numbers are places in a list."""
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(tree, list):
            if not key.isdecimal() or int(key) >= len(tree):
                raise ConfigError(f"{path} (from {source}): there is no item {key!r} in a list of {len(tree)}")
            place: Any = int(key)
        else:
            place = key
        if last:
            tree[place] = value
            return
        below = tree[place] if isinstance(tree, list) else tree.get(place)
        if isinstance(tree, list) and not isinstance(below, dict):
            below = {"uri": below}  # a source may be written as its address alone
        tree[place] = below if isinstance(below, dict | list) else {}
        tree = tree[place]


def origin(path: str, origins: Mapping[str, str]) -> str:
    """Who set the value at a path, or the list or section that it is part of, or something below it."""
    keys = path.split(".")
    for length in range(len(keys), 0, -1):
        if found := origins.get(".".join(keys[:length])):
            return found
    return next((told for known, told in origins.items() if known.startswith(f"{path}.")), DEFAULT)


def explain(problem: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """One of pydantic's errors as a sentence."""
    keys = [str(key) for key in problem["loc"]]
    path = ".".join(keys)
    told = f"{path} (from {origin(path, origins)})"
    if problem["type"] != "extra_forbidden":
        reason = problem["msg"].removeprefix("Value error, ")
        given = "***" if keys[-1] == "token" else redact(repr(problem["input"]))
        return f"{told}: {reason[0].lower()}{reason[1:]}, got {given}"
    valid = known_paths(Config, keys[:-1])
    parent = "".join(f"{key}." for key in keys[:-1])
    hint = did_you_mean(keys[-1], valid, f"valid here are {', '.join(sorted(valid))}", lambda key: parent + key)
    return f"{told}: there is no such key; {hint}"


def known_paths(section: type[BaseModel], keys: Iterable[str]) -> list[str]:
    """The keys that are valid below a path."""
    for key in keys:
        field = section.model_fields.get(key)
        if field is None:
            continue  # a place in a list, or a label's name
        models = [m for m in (field.annotation, *get_args(field.annotation)) if isinstance(m, type)]
        section = next((m for m in models if issubclass(m, BaseModel)), section)
    return list(section.model_fields)
