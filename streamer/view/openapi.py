"""What /api/ says of itself: the answers of api.py, an OpenAPI document of them, and the same as a page for people.

Nothing on the page comes from elsewhere, and it runs no script.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from streamer.config import SourceConfig
from streamer.labels.commands import StreamReport
from streamer.labels.messages import EventMessage
from streamer.web import Page

_REF = "#/components/schemas/{name}"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Stream(StreamReport, frozen=True, kw_only=True):
    """A stream as it is now: its address without passwords, its source and counts as in its `status` messages."""

    label: Annotated[str | None, Meta(description="The label in force, or null.")]
    since_us: Annotated[int | None, Meta(description="Since when, microseconds UTC.")]


class Streams(msgspec.Struct, frozen=True):
    """All streams, in the order in which they began."""

    streams: list[Stream]


class Events(msgspec.Struct, frozen=True):
    """Events, each by its newest message; the one of which something was told last is the last."""

    events: list[EventMessage]
    next: Annotated[str, Meta(description="Give it as `since` the next time.")]
    more: Annotated[bool, Meta(description="There are more already: ask again at once.")]
    kept_from_us: Annotated[
        int | None, Meta(description="From this time on all are kept, microseconds UTC; null: nothing was heard yet.")
    ]
    missed: Annotated[
        str | None, Meta(description="Why events may be missing between `since` and these; null: none is.")
    ]


class Model(msgspec.Struct, frozen=True):
    """The model that runs."""

    model: Annotated[str, Meta(description="name@hash.")]
    session: Annotated[str, Meta(description="UUID of this run, as in its messages.")]
    draining: Annotated[bool, Meta(description="The run is about to end.")]
    knows: Annotated[list[str], Meta(description="Its labels.")]
    loading: Annotated[str | None, Meta(description="The model that is being loaded, to take over; null: none.")]
    events: Annotated[dict[str, Any], Meta(description="The settings of events that are obeyed now.")]
    set: Annotated[dict[str, Any], Meta(description="What was changed since the run began, by path.")]


class Added(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stream that has begun."""

    stream: str
    streams: Annotated[list[str] | None, Meta(description="Of a source with views: all of them.")] = None


class Removed(msgspec.Struct, frozen=True):
    """The stream that has ended."""

    stream: str


class Problem(msgspec.Struct, frozen=True):
    """Why something was not done, in a sentence."""

    error: str


_NAME = ("name", "path", "string", "A stream.")
_FILTERS = (
    ("since", "query", "string", "`next` of the last answer, or a time in microseconds UTC. Without it: the newest."),
    ("stream", "query", "string", "Events of this stream only."),
    ("label", "query", "string", "Events of this label only."),
    ("limit", "query", "integer", "How many at most, 1 to 1000 [default: 100]."),
)
_ALWAYS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "Another site's page asks, or you may not do this.",
}
_NO_STREAM = {404: "There is no such stream."}
_RUN = {409: "This page is not beside its run.", 503: "Too many requests wait.", 504: "The run did not answer in time."}
_SENT = {
    411: "No Content-Length.", 413: "More than 16 KiB.", 415: "No JSON.",
    422: "The run cannot open this.",
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """What can be asked: `gives` with `status`, or an error."""

    method: str
    path: str
    summary: str
    gives: type
    errors: dict[int, str]
    parameters: tuple[tuple[str, str, str, str], ...] = ()
    status: int = 200


OPERATIONS = (
    Operation("get", "/api/streams", "All streams, and what is seen in them", Streams, _RUN),
    Operation("post", "/api/streams", "Begin the streams of one more source", Added, _SENT | _RUN, status=201),
    Operation("get", "/api/streams/{name}", "One stream", Stream, _NO_STREAM | _RUN, (_NAME,)),
    Operation("delete", "/api/streams/{name}", "End a stream", Removed, _NO_STREAM | _RUN, (_NAME,)),
    Operation("get", "/api/events", "What happened, within the last hour", Events, {}, _FILTERS),
    Operation("get", "/api/model", "The model, and its settings", Model, _RUN),
)


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document, version 3.1."""
    kinds = (Streams, Stream, Events, Model, Added, Removed, Problem)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    source = SourceConfig.model_json_schema(ref_template=_REF.replace("{name}", "{model}"))
    schemas |= source.pop("$defs", {}) | {"Source": source}
    for schema in schemas.values():
        if "description" in schema:  # docstrings; Python before 3.13 keeps their indentation
            schema["description"] = inspect.cleandoc(schema["description"])
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _described(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "action-streamer",
            "version": version("action-streamer"),
            "description": "Action labels from live video: what a run sees, and its cameras.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "The view's token."}},
        },
        "security": [{}, {"token": []}],
    }


def _described(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {str(one.status): _answer(inspect.cleandoc(one.gives.__doc__ or ""), one.gives)}
    told |= {str(code): _answer(why, Problem) for code, why in sorted((_ALWAYS | one.errors).items())}
    described: dict[str, Any] = {"operationId": one.method + re.sub(r"\W+", "_", one.path), "summary": one.summary}
    if one.parameters:
        described["parameters"] = [
            {"name": name, "in": place, "required": place == "path", "description": about, "schema": {"type": of}}
            for name, place, of, about in one.parameters
        ]
    if one.method == "post":
        forms = [{"$ref": _REF.format(name="Source")}, {"type": ["string", "integer"]}]
        examples = {"camera": {"value": {"uri": "rtsp://camera/1", "name": "door"}}}
        about = "A source as in the configuration, or its address alone."
        content = {"application/json": {"schema": {"anyOf": forms}, "examples": examples}}
        described["requestBody"] = {"required": True, "description": about, "content": content}
    return {**described, "responses": told}


def _answer(about: str, kind: type) -> dict[str, Any]:
    return {
        "description": about,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}},
    }


@functools.cache
def description() -> Page:
    """The document, served."""
    return Page(json.dumps(document(), indent=1).encode() + b"\n", "application/json", headers=_HEADERS)


@functools.cache
def page() -> Page:
    """The document for people, served."""
    return Page("".join(_html(document())).encode(), "text/html; charset=utf-8", headers=_HEADERS)


def _html(api: dict[str, Any]) -> Iterator[str]:
    """The page, piece by piece."""
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>action-streamer over HTTP</title>'
    yield '<meta name="viewport" content="width=device-width"><link rel="icon" href="/icon.svg">'
    yield '<link rel="stylesheet" href="/api.css"></head><body><main><h1>action-streamer over HTTP</h1>'
    yield f"<p>{_text(api['info']['description'])} For programs: <a href='/api/openapi.json'>openapi.json</a>"
    yield f" (OpenAPI {api['openapi']}). Answers are JSON. Where the page asks for a token, send it in the header "
    yield "<code>Authorization: Bearer TOKEN</code>.</p>"
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield f"<section><h2><b>{method.upper()}</b> <code>{_text(path)}</code></h2>"
            yield f"<p>{_text(operation['summary'])}</p>"
            yield from _table(
                (f"<code>{_text(one['name'])}</code>", _text(one["description"]))
                for one in operation.get("parameters", ())
            )
            if body := operation.get("requestBody"):
                example = body["content"]["application/json"]["examples"]["camera"]["value"]
                yield f"<p>{_text(body['description'])} {_linked('Source')}</p><pre>{_text(json.dumps(example))}</pre>"
            yield from _table(
                (f"<code>{code}</code>", f"{_text(answer['description'])} {_linked(_kind(answer))}")
                for code, answer in operation["responses"].items()
            )
            yield "</section>"
    yield "<h2>What is in them</h2>"
    for name, schema in sorted(api["components"]["schemas"].items()):
        yield f'<section><h3 id="{_text(name)}">{_text(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
        yield from _table(
            (f"<code>{_text(key)}</code>", f"{_typed(one)}. {_text(one.get('description', ''))}")
            for key, one in schema.get("properties", {}).items()
        )
        yield "</section>"
    yield "</main></body></html>\n"


def _kind(answer: dict[str, Any]) -> str:
    return str(answer["content"]["application/json"]["schema"]["$ref"]).rpartition("/")[2]


def _typed(schema: dict[str, Any]) -> str:
    """The type of a field, in a few words."""
    if "$ref" in schema:
        return _linked(str(schema["$ref"]).rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_typed, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return " or ".join(
            f"<code>{_text(json.dumps(one))}</code>" for one in schema.get("enum", [schema.get("const")])
        )
    if schema.get("type") == "array" and "items" in schema:
        return f"array of {_typed(schema['items'])}" if schema["items"] else "array"
    return _text(str(schema.get("type", "any value")))


def _linked(name: str) -> str:
    return f'<a href="#{_text(name)}">{_text(name)}</a>'


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Rows of cells that are HTML already."""
    if made := [f"<tr><th scope='row'>{name}</th><td>{about}</td></tr>" for name, about in rows]:
        yield f"<table>{''.join(made)}</table>"


def _text(told: str) -> str:
    """Text as HTML; what stands in `backticks` is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(told))
