"""Programs that ask /api/, and what they are told."""

from __future__ import annotations

import ctypes
import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from socket import create_connection, socket
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from streamer.view.openapi import document

from .peers import PATIENCE_S, Page

JSON = {"Content-Type": "application/json"}


@dataclass
class Told:
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: Any

    @property
    def error(self) -> str:
        return str(self.body["error"])


def ask(page: Page, method: str, path: str, body: Any = None, sock: socket | None = None, **headers: str) -> Told:
    """What /api/... answers to a request of a program; a body is sent as JSON."""
    with closing(http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=PATIENCE_S)) as connection:
        connection.sock = sock or connection.sock
        data = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/api/{path}", data, named if body is None else {**JSON, **named})
        answer = connection.getresponse()
        said = answer.read()
        return Told(answer.status, answer.headers, json.loads(said) if said else None)


def conforms(method: str, path: str, told: Told) -> Told:
    """The answer, which is as the OpenAPI document says."""
    answer = document()["paths"][path][method]["responses"][str(told.status)]
    schema = {**answer["content"]["application/json"]["schema"], "components": document()["components"]}
    Draft202012Validator(schema).validate(told.body)
    return told


def raw(page: Page, said: bytes) -> bytes:
    """All that is answered to some bytes."""
    host, port = urlsplit(page.url).netloc.split(":")
    with create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(said.replace(b"HOST", host.encode()))
        return b"".join(iter(lambda: connection.recv(4096), b""))


def as_another_user(page: Page) -> socket:
    """A connection that the kernel takes for one of another user's."""
    host, port = urlsplit(page.url).netloc.split(":")
    libc = ctypes.CDLL(None)
    libc.setfsuid(65534)  # of this thread alone: the kernel notes it with the socket
    try:
        return create_connection((host, int(port)))
    finally:
        libc.setfsuid(0)
