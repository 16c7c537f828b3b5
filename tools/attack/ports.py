"""Attacks on the HTTP ports: the page, and that of /metrics and /healthz."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress

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


ATTACKS = (
    Attack("odd-origins", "other sites ask the page for labels", odd_origins, "page"),
    Attack("foreign-hosts", "names of somebody else that lead here", foreign_hosts, "page"),
    Attack("silent-viewers", "100 connections to the page that say nothing", silent_viewers, "page"),
    Attack("mute-websockets", "100 WebSockets without a token", mute_websockets, "page"),
    Attack("slow-heads", "100 halves of a request to /healthz", slow_heads),
    Attack("web-garbage", "what is no HTTP", web_garbage, "page"),
)
