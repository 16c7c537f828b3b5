"""docs/reference/configuration.md: every key of the configuration, from its models."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streamer import config
from streamer.config import Config, EventConfig, Since, Unit
from streamer.labels.events import PRESETS
from tools.docs.markdown import MADE, docstring, escape, table

FIRST = "0.1.0"
_INTRODUCTION = f"""{MADE}
# Configuration

Every value can be set in four ways; the later overrules the earlier:

1. the default,
2. a YAML file: `streamer run -c FILE`,
3. the environment: `STREAMER_EVENTS__ENTER=0.7`. Two underscores go one level down,
4. the command line: `--set events.enter=0.7`, or the option of that name.

Details:

- A file has at most 256 KiB, 10,000 values and 20 levels. Anchors, aliases and merge keys (`<<: *camera`) work.
- The schema says what is a number: a token of digits keeps its zeros, a label `no` or `1.0` is a label.
- A key with nothing behind its colon has its default. `off`, `no` and `false` are null for `control`, `metrics`,
  `publish.address`, `view.address`, `max_age_ms`, `frozen_s` and `duration_s`.
- A list of one may be written as its item: `sources: clip.mp4`, `background: still`.
- A label with a dot stands in quotes in `--set`: `--set 'events.labels."No. 1".enter=0.8'`. A file takes it whole.
- Lists in the environment: `STREAMER_SOURCES=rtsp://camera/a` for one, or `STREAMER_SOURCES__0__URI=...` and
  `STREAMER_SOURCES__1__URI=...`, from 0 and without a gap; `STREAMER_EVENTS__BACKGROUND__0=still`. Tokens, passwords
  and addresses of sources are taken as they are, everything else is YAML.
- Sources on the command line replace those of file and environment.
- A `STREAMER_` variable that is nearly a key is an error; others, such as those that Kubernetes makes for a service
  called streamer, are ignored with one warning (`enableServiceLinks: false` keeps them away).

An unknown key is an error that names the nearest known one. `streamer config -c FILE` prints every value and where it
came from, without passwords.

In the tables, a key's name is its whole path, as `--set` takes it. `0` stands for a source's place in the list, `LABEL`
for one of the model's labels.
"""
_WORDS = {
    str: "text",
    bool: "true, false",
    int: "whole number",
    float: "number",
    Path: "file",
    SecretStr: "secret",
    type(None): "null",
}
_JOINTS: dict[Any, str] = {dict: ": ", Union: " or ", types.UnionType: " or "}


def configuration_page() -> str:
    """The page."""
    sections = [_INTRODUCTION, *_sections(Config, "The run", keys()), _presets()]
    return "\n".join(section.rstrip() + "\n" for section in sections)


class Key(NamedTuple):
    """One key: its path, its field, its annotation with units and versions, and the version it came with."""

    path: str
    field: FieldInfo
    annotation: Any
    since: str


def keys(model: type[BaseModel] = Config, prefix: str = "", first: str = FIRST) -> list[Key]:
    """The keys of a section, which itself came with the version `first`."""
    hints = get_type_hints(model, vars(config), include_extras=True)
    return [
        Key(f"{prefix}{name}", field, hints[name], _since(hints[name], first))
        for name, field in model.model_fields.items()
    ]


def all_keys(section: Iterable[Key] | None = None) -> Iterator[Key]:
    """Every key, those of a section behind it."""
    for key in keys() if section is None else section:
        yield key
        yield from all_keys(keys_below(key))


def keys_below(key: Key) -> list[Key]:
    """The keys of the section that a key holds; none if it holds a value."""
    model = section_of(key.annotation)
    return keys(model, f"{key.path}.{_place(key.annotation)}", key.since) if model else []


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds, alone, in a list or in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_of(part))), None)


def _since(annotation: Any, first: str) -> str:
    return next((mark.version for mark in _marks(annotation) if isinstance(mark, Since)), first)


def unit(annotation: Any) -> str:
    """The unit of a number; empty without one."""
    return next((mark.name for mark in _marks(annotation) if isinstance(mark, Unit)), "")


def _marks(annotation: Any) -> Iterator[object]:
    """What `Annotated` says anywhere in an annotation, from the outside in."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for part in get_args(annotation):
        yield from _marks(part)


def _place(annotation: Any) -> str:
    """What stands between a key and those below it: nothing, a place in a list, a label."""
    if get_origin(annotation) is Annotated:
        return _place(get_args(annotation)[0])
    return {tuple: "0.", dict: "LABEL."}.get(get_origin(annotation), "")


def _sections(model: type[BaseModel], title: str, section: list[Key]) -> Iterator[str]:
    head = ("key", "what it does", "default", "values, unit", "since")
    rows = [_row(key) for key in section if key.field.description or not section_of(key.annotation)]
    yield f"## {title}\n\n{docstring(model)}\n\n{table(head, rows)}\n"
    for key in section:
        if below := section_of(key.annotation):
            path = f"{key.path}.{_place(key.annotation)}".removesuffix(".")
            yield from _sections(below, f"`{path}`", keys_below(key))


def _row(key: Key) -> tuple[str, ...]:
    default = "required" if key.field.is_required() else f"`{_yaml(key.field.default)}`"
    told = escape(key.field.description or "")
    values = ", ".join(filter(None, (_values(key.annotation), unit(key.annotation))))
    return f"`{key.path}`", told, default, values, key.since


def _values(annotation: Any) -> str:
    """The type in the words of YAML."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if kind is Annotated:
        return _values(parts[0])
    words = [_values(part) for part in parts if part is not Ellipsis]
    if kind is tuple:
        return f"list of {words[0]}"
    if kind in _JOINTS:
        return _JOINTS[kind].join(words)
    return _WORDS.get(annotation, "section")


def _yaml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True)).removesuffix("\n...\n").strip()


def _presets() -> str:
    names = list(PRESETS)
    changed = sorted({key for values in PRESETS.values() for key in values}, key=list(EventConfig.model_fields).index)
    rows = [
        (
            f"`events.{key}`",
            *(f"{values.get(key, EventConfig.model_fields[key].default):g}" for values in PRESETS.values()),
        )
        for key in changed
    ]
    return f"## Presets of events\n\n{table(('key', *(f'`{name}`' for name in names)), rows)}\n"
