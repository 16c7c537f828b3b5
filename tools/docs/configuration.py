"""docs/reference/configuration.md: every key of the configuration, from its models."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from streamer.commands.keys import Key, keys, keys_below, place_of, section_of
from streamer.config import Config, EventConfig
from streamer.labels.events import PRESETS
from tools.docs.markdown import MADE, docstring, escape, table

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


def configuration_page() -> str:
    """The page."""
    sections = [_INTRODUCTION, *_sections(Config, "The run", keys()), _presets()]
    return "\n".join(section.rstrip() + "\n" for section in sections)


def section(model: type[BaseModel], title: str, keys: list[Key]) -> str:
    """The keys of a section as a table."""
    head = ("key", "what it does", "default", "values, unit", "since")
    return f"## {title}\n\n{docstring(model)}\n\n{table(head, (_row(key) for key in keys if key.told))}\n"


def _sections(model: type[BaseModel], title: str, below_it: list[Key]) -> Iterator[str]:
    yield section(model, title, below_it)
    for key in below_it:
        if below := section_of(key.annotation):
            path = f"{key.path}.{place_of(key.annotation)}".removesuffix(".")
            yield from _sections(below, f"`{path}`", keys_below(key))


def _row(key: Key) -> tuple[str, ...]:
    default = f"`{key.default}`" if key.default else "required"
    told = escape(key.field.description or "")
    return f"`{key.path}`", told, default, key.values, key.since


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
