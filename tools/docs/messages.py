"""docs/reference/messages.md: the wire format, from its schema, with an example of each kind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window, encode, schema
from tools.docs.markdown import MADE, escape, one_line, table

_INTRODUCTION = f"""{MADE}
# Messages

A message has two ZeroMQ frames: the topic `act/1/<stream>/<kind>/` and one JSON object. Subscribe to `act/1/` for all
streams, to `act/1/door/` for one, to `act/1/door/event/` for one kind of it. The slash at the end keeps `cam1` from
matching `cam10`.

The JSON Schema is `streamer/labels/labels.schema.json`; `streamer.labels.messages.schema()` gives the same. Version 1
may gain fields: ignore those that you do not know. All times are microseconds UTC.
"""
_START_US, _END_US, _FRAME_US = 1_767_225_600_000_000, 1_767_225_600_800_000, 1_767_225_601_200_000


def messages_page() -> str:
    """The page."""
    definitions = schema()["$defs"]
    examples = {type(message).__name__: message for message in example_messages()}
    known = set.intersection(*(set(definitions[name]["properties"]) for name in examples))
    event = definitions["EventMessage"]["properties"]
    common = {key: {} if key == "kind" else value for key, value in event.items() if key in known}
    parts = [_INTRODUCTION, f"## What every message has\n\n{_fields(common)}\n"]
    for name, message in examples.items():
        own = {key: value for key, value in definitions[name]["properties"].items() if key not in known}
        example = json.dumps(json.loads(encode(message)), indent=2)
        parts.append(f"## {message.kind}\n\n{_told(definitions[name])}\n\n{_fields(own)}\n\n```json\n{example}\n```\n")
    parts += [
        f"## {name}\n\n{_told(definitions[name])}\n\n{_fields(definitions[name]['properties'])}\n"
        for name in ("Times", "Window")
    ]
    return "\n".join(parts)


def example_messages() -> list[Message]:
    """One message of each kind, as a run would publish them."""
    stamp = Stamp(epoch=0, ready=True, frame_us=_FRAME_US, infer_us=_FRAME_US + 5_200)
    build = MessageBuilder(
        "default@741a9284", "stream", session="8a6e0a52-7c1d-4a55-9a1e-2f6f3e1b7c40", now_us=lambda: _FRAME_US + 6_300
    )
    begun = Event("start", "moving left", 1, 0.9862, 0.9862, _START_US)
    ended = replace(begun, type="end", score=0.031, peak=0.9971, t_end_us=_END_US, reason="score")
    build.event("door", stamp, begun)
    window = Window(n=8, step_ms=100.0, first_us=_FRAME_US - 700_000, last_us=_FRAME_US)
    return [
        build.event("door", stamp, ended),
        build.state("door", stamp, State("moving left", 1, 0.9862, _START_US)),
        build.score("door", stamp, [("moving left", 0.9862), ("shaking", 0.0104)], window),
        build.status("door", stamp, "online", captured=27, dropped={"above_rate": 18}, inferred=9, fps_in=30.0),
        build.gap("door", stamp, _FRAME_US - 4_000_000, _FRAME_US, "reconnect"),
    ]


def _told(definition: dict[str, Any]) -> str:
    return "\n\n".join(escape(one_line(paragraph)) for paragraph in definition["description"].split("\n\n"))


def _fields(properties: dict[str, Any]) -> str:
    rows = [(f"`{name}`", _type(value), escape(value.get("description", ""))) for name, value in properties.items()]
    return table(("field", "type", "meaning"), rows)


def _type(value: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words."""
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if "anyOf" in value:
        return " or ".join(_type(option) for option in value["anyOf"])
    if "$ref" in value or "allOf" in value:
        name = (value.get("$ref") or value["allOf"][0]["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if value.get("type") == "object" and "additionalProperties" in value:
        return "object of numbers"
    kind = str(value.get("type", "string"))
    return "list of pairs" if kind == "array" else kind
