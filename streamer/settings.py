"""Where configuration comes from: defaults < file < environment < command line, and who said what."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from engines.errors import did_you_mean
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.reading import MOST_CHARACTERS, NotYamlError, read_yaml
from streamer.text import printable, redact, shown_address, shown_key

PREFIX = "STREAMER_"
DEFAULT = "default"
_COMMAND_LINE = "command line"
_SERVICE = re.compile(  # what Kubernetes makes for a Service, and Docker for a link, called streamer or streamer-...
    r"([A-Z0-9]+_)*(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z]+(_PROTO|_PORT|_ADDR)?)?)|NAME|ENV_\w+"
)
_OURS = 0.75  # how like one of ours an unknown variable must be to be a slip of the pen
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The effective configuration, and the origin of each value that is not a default, by its path as `written`."""

    config: Config
    origins: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """`path: value  # origin` for every value, without secrets."""
        tree = self.config.model_dump(mode="json")
        tree["sources"] = {str(index): source for index, source in enumerate(tree["sources"])}
        for keys, value in leaves(tree):
            shown = yaml.safe_dump(_shown(keys, value), default_flow_style=True, width=10_000)
            shown = shown.removesuffix("\n...\n").strip()
            yield f"{printable(written(keys))}: {shown}  # {origin(keys, self.origins)}"


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge all layers and validate the result.

    file         YAML, as `streamer init` writes it
    environment  STREAMER_MODEL=..., STREAMER_PUBLISH__ADDRESS=...: two underscores go one level down, values are YAML,
                 but for addresses of sources and secrets, which are taken as they are
    assignments  `--set a.b=c`, values as in the environment; sources.0.transport=udp reaches into a list
    options      the command line's own options, by dotted path; `sources` replaces those of the file and of the
                 environment, and assignments reach into it

    Raises ConfigError in one sentence: the path, where it came from, what is wrong, and the nearest valid key.
    """
    given = dict(options or {})
    layers = [*file_values(file), *environment_values(environment)]
    if (sources := given.pop("sources", None)) is not None:
        _tell_unused([source for keys, _, source in layers if keys[0] == "sources"])
        layers = [layer for layer in layers if layer[0][0] != "sources"]
        layers.append((("sources",), list(sources), _COMMAND_LINE))
    layers += assigned_values(assignments)
    layers += [(tuple(path.split(".")), value, _COMMAND_LINE) for path, value in given.items()]
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for keys, value, source in layers:
        put(tree, keys, value, source)
        path = written(keys)
        origins = {known: told for known, told in origins.items() if not f"{known}.".startswith(f"{path}.")}
        origins[path] = source
    try:
        return Settings(Config.model_validate(tree), origins)
    except ValidationError as error:
        raise ConfigError("; ".join(explain(problem, origins) for problem in error.errors())) from None


Keys = tuple[str, ...]
Value = tuple[Keys, Any, str]
"""Where a value belongs, the value, its origin."""


def file_values(path: Path | None) -> list[Value]:
    """What a YAML file says, by leaf."""
    return [(keys, value, str(path)) for keys, value in leaves(read_file(path))] if path else []


def read_file(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = read_yaml(file.read(MOST_CHARACTERS + 1))
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except NotYamlError as error:
        raise ConfigError(f"configuration file {path} is not YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file {path} is not YAML: it is no text in UTF-8") from error
    if not isinstance(content, dict | None):
        raise ConfigError(f"configuration file {path} must hold keys and values, such as `model: default`")
    return content or {}


def environment_values(environment: Mapping[str, str]) -> list[Value]:
    """What STREAMER_ variables say; those of others that only begin like ours are passed over with one warning."""
    values, foreign, fields = [], [], Config.model_fields
    for name in environment:
        if not name.startswith(PREFIX):
            continue
        keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if keys[0] in fields:
            values.append((keys, parse(keys, environment[name], name), f"environment {name}"))
            continue
        near = [match for one in ("__".join(keys), keys[0]) for match in get_close_matches(one, _variables(), 1, _OURS)]
        if near and not _SERVICE.fullmatch(name.removeprefix(PREFIX)):
            meant = f"{near[0].replace('__', '.')} ({PREFIX}{near[0].upper()})"
            raise ConfigError(f"{_told(keys)} (from environment {name}): there is no such key; did you mean {meant}?")
        foreign.append(name)
    if foreign:
        _log.warning(
            "passed over, as no key is called so: %s; if Kubernetes makes them for a Service of that name, "
            "enableServiceLinks: false keeps them away",
            ", ".join(sorted(foreign)),
        )
    return sorted(values, key=lambda value: [key.zfill(6) if key.isdecimal() else key for key in value[0]])


def _variables() -> list[str]:
    """The names of variables in lower case, without the prefix: those of values and of sections."""
    return [*Config.model_fields, *("__".join(keys) for keys, _ in leaves(Config().model_dump()))]


def _tell_unused(origins: Sequence[str]) -> None:
    """A detail for a source in the environment does not reach the sources that the command line gives instead."""
    variables = [name.removeprefix("environment ") for name in origins if name.startswith("environment ")]
    if variables:
        _log.warning("not used, as the command line names the sources: %s; use --set", ", ".join(variables))


def assigned_values(assignments: Sequence[str]) -> list[Value]:
    """What `--set` says; a key with a dot in it stands in quotes: events.labels."No. 1".enter=0.7."""
    values = []
    for text in assignments:
        path, equals, value = text.partition("=")
        keys = _keys(path)
        if not equals or not keys or not keys[0]:
            known = f" {keys[0]}" if keys and keys[0] in Config.model_fields else ""
            raise ConfigError(f"--set{known}: write it as key=value, such as --set events.enter=0.7")
        where = f"--set {_told(keys)}"
        values.append((keys, parse(keys, value, where), f"{_COMMAND_LINE} {where}"))
    return values


def _keys(path: str) -> Keys:
    """The keys of a path as it is written; none if it cannot be read."""
    try:
        return tuple(next(csv.reader([path.strip()], delimiter="."), ()))
    except csv.Error:
        return ()


def changed(config: Config, changes: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """A configuration with settings of events changed while the run goes on, and all that is changed, by path.

    changes  what was changed before; config is that of the start
    values   what is changed now; null takes back the changes at a path and below it

    Raises ConfigError as `load_settings` does, and for what cannot be changed.
    """
    together = dict(changes)
    for path, value in values.items():
        keys = _keys(path)
        if keys[:1] != ("events",):
            raise ConfigError(
                f"{_told(keys) or shown_key(path)}: it cannot be changed while the run goes on; "
                "what begins with events. can, such as events.enter"
            )
        above = written(keys)
        together = {known: one for known, one in together.items() if not f"{known}.".startswith(f"{above}.")}
        if value is not None:
            together[above] = value
    tree: dict[str, Any] = {"events": config.events.model_dump(mode="json", exclude_unset=True)}
    for path, value in together.items():
        put(tree, _keys(path), value, "the request")
    try:
        events = Config.model_validate(tree).events
    except ValidationError as error:
        origins = {"events": "the request"}
        raise ConfigError("; ".join(explain(problem, origins) for problem in error.errors())) from None
    tree = {"events": events.model_dump(mode="json")}
    told = {path: reduce(_below, _keys(path), tree) for path in together}
    return config.model_copy(update={"events": events}), told


def _below(tree: Any, key: str) -> Any:
    return tree[int(key)] if isinstance(tree, list) else tree[key]


def parse(keys: Keys, text: str, where: str) -> Any:
    """The value of a variable or an assignment: YAML, or the text as it is for a secret and the address of a source."""
    if not text:
        return None
    address = keys[0] == "sources" and (len(keys) < 3 or keys[2] in ("uri", "user"))
    if SecretStr in kinds(keys) or (address and (len(keys) > 2 or not text.startswith(("[", "{", "- ")))):
        return text
    try:
        return read_yaml(text)
    except NotYamlError as error:
        raise ConfigError(f"{where}: its value is not a YAML value: {error}") from error


def leaves(tree: Mapping[str, Any], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """All values below a mapping with their keys; lists and empty mappings are values."""
    for key, value in tree.items():
        keys = (*above, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, keys)
        else:
            yield keys, value


def put(tree: Any, keys: Keys, value: Any, source: str) -> None:
    """Set the value at a path; numbers are places in a list, which grows by one at a time."""
    for depth, key in enumerate(keys, start=1):
        place: Any = key
        if isinstance(tree, list):
            if not re.fullmatch(r"[0-9]{1,6}", key) or int(key) > len(tree):
                told = f"{_told(keys)} (from {source})"
                raise ConfigError(
                    f"{told}: there is no item {shown_key(key)!r} in a list of {len(tree)}; items are numbered from 0"
                )
            place = int(key)
            tree += [None] * (place == len(tree))
        if depth == len(keys):
            tree[place] = value
            return
        below = tree[place] if isinstance(tree, list) else tree.get(place)
        if tuple in kinds(keys[:depth]):
            below = below if isinstance(below, list) else [] if below is None else [below]
        elif not isinstance(below, dict):
            below = {"uri": below} if isinstance(tree, list) and below is not None else {}  # an address alone
        tree[place] = below
        tree = below


def origin(keys: Keys, origins: Mapping[str, str]) -> str:
    """Who set the value at a path, or the list or section that it is part of, or something below it."""
    for length in range(len(keys), 0, -1):
        if found := origins.get(written(keys[:length])):
            return found
    return next((told for known, told in origins.items() if known.startswith(f"{written(keys)}.")), DEFAULT)


def written(keys: Iterable[str]) -> str:
    """A path as --set takes it."""
    return ".".join('"{}"'.format(key.replace('"', '""')) if re.search(r'[."]', key) else key for key in keys)


def _told(keys: Iterable[str]) -> str:
    """A path as an error may tell it."""
    return written(map(shown_key, keys))


def explain(problem: Mapping[str, Any], origins: Mapping[str, str], root: type[BaseModel] = Config) -> str:
    """One of pydantic's errors about a `root`, as a sentence."""
    keys = tuple(str(key) for key in problem["loc"])
    told = f"{_told(keys)} (from {origin(keys, origins)})"
    if problem["type"] != "extra_forbidden":
        return f"{told}: {_reason(keys, problem, root)}"
    valid = known_keys(keys[:-1], root)
    listed = f"valid here are {', '.join(sorted(valid))}"
    hint = did_you_mean(keys[-1], valid, "", lambda key: _told((*keys[:-1], key)))
    if not hint and {"uri", "token"} & set(valid):  # a comma in an unquoted address makes a key of what follows
        return f"{_told(keys[:-1])} (from {origin(keys, origins)}): it has a key that is not known; {listed}"
    return f"{told}: there is no such key; {hint or listed}"


def _reason(keys: Keys, problem: Mapping[str, Any], root: type[BaseModel]) -> str:
    given = problem["input"]
    if given is None:
        return "is empty; delete the line or give it a value"
    if problem["type"] in ("model_type", "dict_type"):
        return "should be a valid dictionary: keys with values, below it"
    reason = problem["msg"].removeprefix("Value error, ").replace("tuple", "list")
    reason = f"{reason[0].lower()}{reason[1:]}"
    return reason if isinstance(given, dict | list | tuple) else f"{reason}, got {_given(keys, given, root)}"


def _given(keys: Keys, value: Any, root: type[BaseModel]) -> str:
    """A wrong value as an error may tell it."""
    shown = _shown(keys, value, root)
    number = isinstance(shown, str) and re.fullmatch(r"[-+.\w]*\d", shown) and not shown[0].isalpha()
    return str(shown)[:100] if number else repr(shown)[:100]


def _shown(keys: Keys, value: Any, root: type[BaseModel] = Config) -> Any:
    """A value without secrets."""
    if not isinstance(value, str):
        return value
    source = keys[0] == "sources"
    if source and (keys[-1] in ("sources", "uri") or keys[-1].isdecimal()):
        return shown_address(value)
    secret = SecretStr in kinds(keys, root) or (source and (keys[-1] == "user" or "@" in value))
    return "**********" if secret else redact(value)  # as pydantic writes a SecretStr


def kinds(keys: Iterable[str], root: type[BaseModel] = Config) -> list[Any]:
    """The types that the value at a path may have: models, `tuple`, `dict`, SecretStr, str, ...; none: no such path."""
    found: list[Any] = [root]
    for key in keys:
        below: list[Any] = []
        for kind in found:
            if get_origin(kind) in (tuple, dict):
                below.append(get_args(kind)[-1 if get_origin(kind) is dict else 0])
            elif isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
                below.append(kind.model_fields[key].annotation)
        found = [option for kind in below for option in _options(kind)]
    return [*found, *(get_origin(kind) for kind in found)]


def _options(kind: Any) -> list[Any]:
    """The members of a union, without what annotates them."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [option for member in get_args(kind) for option in _options(member)]
    return [kind]


def known_keys(keys: Iterable[str], root: type[BaseModel] = Config) -> list[str]:
    """The keys that are valid below a path."""
    models = [kind for kind in kinds(keys, root) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [key for model in models for key in model.model_fields]
