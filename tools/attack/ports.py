"""Attacks on the HTTP ports: the page with its /api/, and that of /metrics and /healthz."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack, suppress

from tools.attack.sockets import CHANGES, COMMANDS
from tools.attack.target import Attack, Target

UPGRADE = (
    "GET /labels HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ORIGINS = ("http://[", "http://evil.example", "null", "http://127.0.0.1@evil.example", "\x00", "http://" + "a" * 5000)
HOSTS = ("evil.example", "evil.example:80", "[", "127.0.0.1.evil.example", "")


def _place(address: str) -> tuple[str, int]:
    host, port = address.split(":")
    return host, int(port)


def _answer(address: str, said: bytes, wait_s: float = 5.0) -> bytes:
    """The beginning of the answer to some bytes; empty if there is none."""
    with suppress(OSError), socket.create_connection(_place(address), wait_s) as peer:
        peer.sendall(said)
        return peer.recv(4096)
    return b""


def _get(address: str, path: str, host: str | None = None) -> bytes:
    return _answer(address, f"GET {path} HTTP/1.1\r\nHost: {host or address}\r\nConnection: close\r\n\r\n".encode())


def _is_ok(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


def odd_origins(target: Target) -> list[str]:
    """Pages of other sites, and headers that cannot be, ask for the labels."""
    page = target.program.page
    assert page
    problems = set()
    for _ in target.moments(0.05):
        for origin in ORIGINS:
            answer = _answer(page, UPGRADE.format(host=page, origin=origin).encode("latin-1"))
            if answer.startswith((b"HTTP/1.1 5", b"HTTP/1.1 101")):
                problems.add(f"the origin {origin[:30]!r} was answered {answer[:30]!r}")
    return sorted(problems)


def foreign_hosts(target: Target) -> list[str]:
    """A name of somebody else that leads to this machine (DNS rebinding)."""
    ports = [(target.program.web, "/metrics"), (target.program.web, "/healthz"), (target.program.page, "/")]
    problems = set()
    for _ in target.moments(0.05):
        for address, path in ports:
            for host in HOSTS[:2]:
                if address and _is_ok(_get(address, path, host)):
                    problems.add(f"{path} was given to http://{host}")
    return sorted(problems)


def _crowd(address: str, path: str, said: bytes, target: Target) -> list[str]:
    """A hundred connections that say this and no more; others must be answered all the same."""
    with ExitStack() as stack:
        for _ in range(100):
            with suppress(OSError):
                peer = stack.enter_context(socket.create_connection(_place(address), 1))
                peer.sendall(said)
        for _ in target.moments(0.2):
            pass
        return [] if _is_ok(_get(address, path)) else [f"http://{address}{path} is not answered meanwhile"]


def silent_viewers(target: Target) -> list[str]:
    """Connections to the page that say nothing."""
    assert target.program.page
    return _crowd(target.program.page, "/", b"", target)


def mute_websockets(target: Target) -> list[str]:
    """WebSockets that never bring a token."""
    page = target.program.page
    assert page
    hello = UPGRADE.format(host=page, origin=f"http://{page}").encode()
    return _crowd(page, "/", hello, target)


def slow_heads(target: Target) -> list[str]:
    """Half a request to the port for machines."""
    return _crowd(target.program.web, "/healthz", b"GET /healthz HTTP/1.1\r\nX: ", target)


def web_garbage(target: Target) -> list[str]:
    """What is no HTTP, and heads of a megabyte."""
    pieces = (b"\0" * 9000, os.urandom(9000), b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n" + b"A: b\r\n" * 200_000)
    for _ in target.moments(0.05):
        for address in filter(None, (target.program.web, target.program.page)):
            for piece in pieces:
                _answer(address, piece, 1.0)
    return [] if _is_ok(_get(target.program.web, "/healthz")) else ["/healthz is not answered any more"]


def odd_asks(target: Target) -> list[str]:
    """What cannot be asked of the run, asked by a browser that may ask."""
    page = target.program.page
    assert page
    problems = set()
    for _ in target.moments(0.05):
        for request in (*CHANGES, *COMMANDS):
            if not _is_refused(page, request):
                problems.add(f"{request[:60]!r} was not refused")
    return sorted(problems)


def _is_refused(page: str, request: bytes) -> bool:
    """Whether a browser is told why this is not done, or is sent away."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake
    from websockets.sync.client import connect
    from websockets.typing import Origin

    gone = suppress(ConnectionClosed, InvalidHandshake, OSError)  # a machine that is busy is no way in
    with gone, connect(f"ws://{page}/labels", origin=Origin(f"http://{page}"), proxy=None, max_size=None) as browser:
        browser.send('{"token": null}')
        browser.send(b'{"id": 7, "ask": %s}' % request, text=True)
        while True:
            told = browser.recv(30)
            for one in json.loads(told) if isinstance(told, str) else ():
                if (one["kind"], one.get("id")) == ("answer", 7):
                    return "error" in one and "please report it" not in one["error"]
    return True


INTRUDER = '{"uri": "pattern://still", "name": "intruder"}'
FOREIGN = (
    "Origin: http://evil.example", "Origin: null", "Origin: http://{host}.evil.example", "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-site\r\nOrigin: http://{host}", "Content-Encoding: gzip", "Transfer-Encoding: chunked",
)  # fmt: skip


def _post(host: str, body: str, *fields: str, what: str = "POST /api/streams", length: object = None) -> bytes:
    """A request with a body; fields may be given anew."""
    lines = [f"{what} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body) if length is None else length}", *fields]
    lines += ["Content-Type: application/json"] * ("Content-Type" not in "".join(fields))
    return "\r\n".join([*(line.format(host=host) for line in lines), "", body]).encode("latin-1")


def foreign_posts(target: Target) -> list[str]:
    """Pages of other sites add and remove streams: as forms, as scripts, and under another name of this machine."""
    page = target.program.page
    assert page
    remove = f"DELETE /api/streams/{target.program.sources[0]['name']}"
    problems = set()
    for _ in target.moments(0.05):
        asked = [_post(page, INTRUDER, field) for field in FOREIGN]
        asked += [_post(page, "", field, what=remove) for field in FOREIGN[:5]]
        asked += [_post(host, INTRUDER) for host in HOSTS[:2]]
        asked += [_post(page, INTRUDER, f"Content-Type: {kind}") for kind in ("text/plain", "multipart/form-data", "")]
        for one in asked:
            answer = _answer(page, one)
            if answer and not answer.startswith(b"HTTP/1.1 4"):
                problems.add(f"{one[:60]!r} was answered {answer[:60]!r}")
    return sorted(problems)


def odd_posts(target: Target) -> list[str]:
    """Requests that cannot be: bodies that are no source, too long, too deep, or longer than they say."""
    page = target.program.page
    assert page
    bodies = ("", "{", "null", "[" * 16_000, '{"a":' * 2500, "9" * 16_000, '"' + "\\ud800" * 99 + '"', "x" * 60_000,
              '{"uri": ["pattern://still"]}', '"' + "://" * 5000 + '"', '{"uri": "\\u0000"}')  # fmt: skip
    asked = [_post(page, body) for body in bodies]
    asked += [_post(page, "{}", length=length) for length in (10**20, -1, "0x10", "", "2\r\nContent-Length: 3")]
    paths = ("streams/" + "%2e" * 2000, "streams/" + "a" * 4000, "events?since=" + "9" * 4000, "events?limit=99999999",
             "events?" + "a=1&" * 1800, "events?label=" + "%f0%9f%98%80" * 300)  # fmt: skip
    asked += [_post(page, "", what=f"{method} /api/{path}") for path in paths for method in ("GET", "DELETE")]
    problems = set()
    for _ in target.moments(0.05):
        for one in asked:
            answer = _answer(page, one)
            if answer.startswith((b"HTTP/1.1 5", b"HTTP/1.1 201")):
                problems.add(f"{one[:60]!r} was answered {answer[:60]!r}")
    return sorted(problems) + _still_answers(page)


def slow_posts(target: Target) -> list[str]:
    """A hundred requests whose bodies never come."""
    assert target.program.page
    said = _post(target.program.page, INTRUDER)[:-5]
    return _crowd(target.program.page, "/api/model", said, target)


def api_flood(target: Target) -> list[str]:
    """Requests as fast as they are taken, by who reads no answer."""
    page = target.program.page
    assert page
    said = [f"GET /api/{path} HTTP/1.1\r\nHost: {page}\r\n\r\n".encode() for path in ("streams", "events", "model")]
    for number, _ in enumerate(target.moments(0.001)):
        with suppress(OSError), socket.create_connection(_place(page), 1) as peer:
            peer.sendall(said[number % len(said)])
    return _still_answers(page)


def _still_answers(page: str) -> list[str]:
    """What is wrong if /api/ answers nobody any more; requests that were made just now may still wait."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if _is_ok(_get(page, "/api/streams")):
            return []
        time.sleep(0.2)
    return ["/api/streams is not answered any more"]


ATTACKS = (
    Attack("odd-origins", "other sites ask the page for labels", odd_origins, "page"),
    Attack("foreign-hosts", "names of somebody else that lead here", foreign_hosts, "page"),
    Attack("silent-viewers", "100 connections to the page that say nothing", silent_viewers, "page"),
    Attack("mute-websockets", "100 WebSockets without a token", mute_websockets, "page"),
    Attack("slow-heads", "100 halves of a request to /healthz", slow_heads),
    Attack("odd-asks", "what cannot be asked of the run, by a browser", odd_asks, "page"),
    Attack("foreign-posts", "other sites add and remove streams", foreign_posts, "page"),
    Attack("odd-posts", "requests to /api/ that cannot be", odd_posts, "page"),
    Attack("slow-posts", "100 requests to /api/ whose bodies never come", slow_posts, "page"),
    Attack("api-flood", "requests to /api/ whose answers nobody reads", api_flood, "page"),
    Attack("web-garbage", "what is no HTTP", web_garbage, "page"),
)
