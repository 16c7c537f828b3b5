"""Attacks on the sockets for labels and commands, by whoever reaches them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from streamer.errors import ConfigError
from tools.attack.target import Attack, Target
from tools.peers.zmtp import GREETING, connect, frame, join

COMMANDS = (b'{"command": "drain"}', b'{"command": "add", "source": {"uri": "pattern://still", "name": "intruder"}}')
VERBS = ("POST", "PUT", "GET", "OPTIONS", "PATCH", "M-SEARCH")
ZMTP_2 = b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\x00\x00"


def _say(address: str, said: bytes) -> None:
    """Say something, and wait a moment for an answer."""
    with connect(address) as peer, suppress(OSError):
        peer.settimeout(0.05)
        peer.sendall(said)
        while peer.recv(4096):
            pass


def _zmtp_1(*parts: bytes) -> bytes:
    last = len(parts) - 1
    return b"".join(bytes([len(part) + 1, number < last]) + part for number, part in enumerate(parts))


def http(target: Target) -> None:
    """What a web page or a camera can make others say: an HTTP request whose body is ZMTP 1.0."""
    for _ in target.moments():
        for address in (target.program.control, target.program.labels):
            for verb in VERBS:
                for shift, command in ((0, COMMANDS[0]), (1, COMMANDS[0]), (0, COMMANDS[1]), (1, COMMANDS[1])):
                    body = b"\x01" * (400 + shift) + _zmtp_1(b"", command)
                    head = f"{verb} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                    _say(address, head.encode() + body)


def old_protocols(target: Target) -> None:
    """The protocol's versions 1.0 and 2.0 know no authentication."""
    for _ in target.moments():
        for command in COMMANDS:
            _say(target.program.control, _zmtp_1(b"", b"", command))
            _say(target.program.control, ZMTP_2 + b"\x01\x00\x00" + bytes([len(command)]) + command)
            _say(target.program.control, b"\x01\x00" + _zmtp_1(b"", command))


def _pour(target: Target, address: str, kind: bytes, more: bytes) -> None:
    """Send this as fast as it is taken, from a new connection whenever the old one is ended."""
    peer = None
    for _ in target.moments(0.001):
        try:
            if peer is None:
                peer = join(address, kind)
                peer.settimeout(0.2)
            for _ in range(50):
                peer.sendall(more)
        except OSError:
            if peer:
                peer.close()
            peer = None
    if peer:
        peer.close()


def endless_labels(target: Target) -> None:
    """A message to the label port whose parts never end."""
    _pour(target, target.program.labels, b"SUB", frame(b"\x07" + b"x" * 400, more=True) * 100)


def endless_empty(target: Target) -> None:
    """The same with empty parts, which cost most for a byte."""
    _pour(target, target.program.labels, b"SUB", frame(b"", more=True) * 2000)


def slow_parts(target: Target) -> None:
    """Many connections, each with a message that never ends and comes slowly."""
    with ExitStack() as stack:
        peers = [stack.enter_context(join(target.program.labels, b"SUB")) for _ in range(20)]
        for _ in target.moments(0.02):
            for peer in peers:
                with suppress(OSError):
                    peer.sendall(frame(b"", more=True) * 50)


def many_parts(target: Target) -> list[str]:
    """Requests of a hundred thousand parts, and one of a million; to throw them away takes no time of the labels."""
    for number, _ in enumerate(target.moments(0.1)):
        with join(target.program.control, b"DEALER") as peer, suppress(OSError):
            parts = 1_000_000 if number == 0 else 100_000
            peer.sendall(frame(b"", more=True) * parts + frame(COMMANDS[0]))
    for _ in range(3):
        with suppress(ConfigError):
            target.program.ask("status")
            return []
    return ["control does not answer within a minute"]


def subscriptions(target: Target) -> None:
    """Ten thousand subscriptions a second to what does not exist, as long as they may be."""
    seeded = random.Random(7)
    prefixes = [bytes(seeded.choices(b"abcdefghijklmnopqrstuvwxyz", k=60)) for _ in range(5000)]
    more = b"".join(frame(b"\x01act/1/" + prefix + b"/") for prefix in prefixes)
    _pour(target, target.program.labels, b"SUB", more)


def odd_subscriptions(target: Target) -> None:
    """Subscriptions to random bytes, a kilobyte each."""
    _pour(target, target.program.labels, b"SUB", b"".join(frame(b"\x01" + os.urandom(1000)) for _ in range(50)))


def subscription_flood(target: Target) -> None:
    """The same few subscriptions, begun and ended as fast as it goes."""
    pairs = b"".join(frame(kind + b"act/1/%d/" % n) for n in range(500) for kind in (b"\x01", b"\x00"))
    _pour(target, target.program.labels, b"XSUB", pairs)


def connections(target: Target) -> None:
    """Seven hundred connections to the label port, which say nothing or half a greeting."""
    with ExitStack() as stack:
        for number in range(700):
            with suppress(OSError):
                peer = stack.enter_context(connect(target.program.labels))
                peer.sendall((b"", b"\xff", GREETING[:30], GREETING)[number % 4])
        for _ in target.moments(0.1):
            pass


def connection_storm(target: Target) -> None:
    """Connections that come and go as fast as they can."""
    for _ in target.moments(0.001):
        for _ in range(20):
            with suppress(OSError), connect(target.program.labels) as peer:
                peer.sendall(GREETING)


def garbage(target: Target) -> None:
    """What is no protocol at all, and frames of impossible lengths."""
    pieces = (
        os.urandom(5000), b"\xff" * 9000, bytes(9000), b"\x16\x03\x01" + os.urandom(500), GREETING + os.urandom(5000),
        GREETING + b"\x06" + b"\xff" * 8, GREETING + b"\x04\x06\x05READY", GREETING[:12] + b"CURVE".ljust(52, b"\0"),
    )  # fmt: skip
    for _ in target.moments():
        for address in (target.program.control, target.program.labels):
            for piece in pieces:
                _say(address, piece)
            for kind in (b"PUB", b"REP", b"XXX", b"A" * 200):
                with suppress(OSError):
                    join(address, kind).close()


def requests(target: Target) -> None:
    """Requests as fast as they are taken, by somebody who reads no answer."""
    request = frame(b"", more=True) + frame(b'{"command": "snapshot"}')
    _pour(target, target.program.control, b"DEALER", request * 50)


ODD = (
    b"", b"{", b"[" * 15_000, b'{"a":' * 3000, b'"' + b"\\ud800" * 100 + b'"', b"9" * 15_000, b"\xff\xfe{}", b"null",
    b'{"command": "add", "source": ' + b"9" * 15_000 + b"}", b'{"command": "add", "source": {"uri": 1e999}}',
    b'{"command": "reset", "stream": "' + b"a" * 15_000 + b'"}', b'{"command": "add", "source": {"uri": "\\u0000"}}',
    json.dumps({"command": "add", "source": {f"{number:x}": 1 for number in range(1500)}}).encode(),
    json.dumps({"command": "add", "source": "a" + "://" * 5000}).encode(),
    json.dumps({"command": "add", "source": "http://127.0.0.1:1/" + "://" * 600}).encode(),
)  # fmt: skip
CHANGES = (
    b'{"command": "set"}', b'{"command": "set", "set": {}}', b'{"command": "set", "set": {"events.enter": 1e999}}',
    json.dumps({"command": "set", "set": {f"events.labels.{number:x}.enter": 0.5 for number in range(200)}}).encode(),
    json.dumps({"command": "set", "set": {"events" + ".labels" * 1500: 1}}).encode(),
    b'{"command": "set", "set": {"events.enter": ' + b"[" * 7000 + b"]" * 7000 + b"}}",
    b'{"command": "set", "set": {"events.background": ["' + b"x" * 15_000 + b'"]}}',
    b'{"command": "set", "set": {"model": "other", "control": null, "publish.address": "tcp://0.0.0.0:1"}}',
    b'{"command": "model"}', b'{"command": "model", "model": ""}', b'{"command": "model", "model": "/dev/zero"}',
    b'{"command": "model", "model": "/proc/self/mem"}', b'{"command": "model", "model": "\\u0000"}',
    json.dumps({"command": "model", "model": "../" * 300 + "etc/passwd"}).encode(),
    b'{"command": "clips", "of": "/"}', b'{"command": "answer", "clip": "../../etc/passwd", "label": "x"}',
    b'{"command": "answer", "clip": "x", "label": "../../x"}', b'{"command": "answer", "clip": 1, "label": []}',
    json.dumps({"command": "answer", "clip": "a" * 8000, "label": "b" * 7000}).encode(),
)  # fmt: skip


def odd_requests(target: Target) -> list[str]:
    """Requests that are no JSON, nested deeply, full of numbers without end, or of addresses in addresses."""
    return _odd(target, ODD)


def odd_changes(target: Target) -> list[str]:
    """Settings, models and answers to clips that cannot be."""
    return _odd(target, CHANGES)


def _odd(target: Target, requests: Sequence[bytes]) -> list[str]:
    """Send requests of which none may change anything but the streams; each must be answered."""
    problems = set()
    for _ in target.moments():
        for request in requests:
            with join(target.program.control, b"DEALER") as peer:
                peer.settimeout(10)
                peer.sendall(frame(request))
                try:
                    if not (answer := peer.recv(4096)):
                        problems.add(f"{request[:40]!r} has no answer")
                    elif b"please report it" in answer:
                        problems.add(f"{request[:40]!r} was answered {answer[:200]!r}")
                except TimeoutError:
                    problems.add(f"{request[:40]!r} has no answer within 10 s")
        report = target.program.ask("status")
        if report["set"]:
            problems.add(f"settings were changed: {report['set']}")
        for stream in report["streams"]:
            if stream["stream"] not in {source["name"] for source in target.program.sources}:
                target.remove(stream["stream"])
    return sorted(problems)


ATTACKS = (
    Attack("http-to-zeromq", "HTTP requests that are ZMTP 1.0, to both sockets", http),
    Attack("old-zmtp", "commands in ZMTP 1.0 and 2.0", old_protocols),
    Attack("endless-message", "parts of 400 bytes without end, to the label port", endless_labels),
    Attack("endless-empty-parts", "empty parts without end, to the label port", endless_empty),
    Attack("slow-endless-messages", "twenty messages that never end and come slowly", slow_parts),
    Attack("many-parts", "requests of a million parts", many_parts),
    Attack("subscriptions", "subscriptions without end", subscriptions),
    Attack("odd-subscriptions", "subscriptions to random bytes", odd_subscriptions),
    Attack("subscription-flood", "subscriptions begun and ended without rest", subscription_flood),
    Attack("silent-connections", "700 connections that say nothing, or half a greeting", connections),
    Attack("connection-storm", "connections that come and go", connection_storm),
    Attack("garbage", "what is no ZeroMQ", garbage),
    Attack("request-flood", "requests whose answers nobody reads", requests),
    Attack("odd-requests", "requests that cannot be", odd_requests),
    Attack("odd-changes", "settings, models and answers to clips that cannot be", odd_changes),
)
