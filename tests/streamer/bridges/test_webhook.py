"""The bridge to a web address, at real ones."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.bridges.feed import Choice
from streamer.bridges.template import Body
from streamer.bridges.webhook import SIGNATURE, Webhook, parse_target
from streamer.errors import ConfigError
from streamer.labels.messages import MessageBuilder
from tests.streamer.bridges.peers import Web, event

WaitFor = Callable[[Callable[[], bool]], None]
Hook = Callable[..., Webhook]


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Begin bridges with short pauses; they end with the test."""
    begun = []

    def begin(url: str, choice: Choice | None = None, ca_file: Path | None = None, **options: Any) -> Webhook:
        body = options.pop("body", Body())
        begun.append(Webhook(parse_target(url, ca_file), body, choice or Choice(), **{"pause_s": 0.01, **options}))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def test_each_event_is_posted_signed_and_can_be_told_from_a_repetition(hook: Hook, wait_for: WaitFor) -> None:
    with Web(answers=[500]) as web:
        bridge = hook(f"{web.url}?room=1", secret=b"s3cret")
        bridge.take(event("end"))
        wait_for(lambda: bridge.counts()["sent"] == 1)
        (first, body), (again, same) = web.got
        assert body == same
        assert json.loads(body)["label"] == "wave"
        assert first[SIGNATURE] == f"sha256={hmac.new(b's3cret', body, hashlib.sha256).hexdigest()}"
        assert first["X-Event-Id"] == again["X-Event-Id"] == "run/door-0/end"
        assert first["Content-Type"] == "application/json"
        assert web.paths == ["/hook?room=1"] * 2


def test_without_a_secret_there_is_no_signature_and_a_login_is_sent(hook: Hook, wait_for: WaitFor) -> None:
    with Web() as web:
        bridge = hook(web.url.replace("//", "//user:p%40ss@"))
        bridge.take(event("start"))
        wait_for(lambda: bridge.counts()["sent"] == 1)
        assert SIGNATURE not in web.got[0][0]
        assert web.got[0][0]["Authorization"] == "Basic dXNlcjpwQHNz"


def test_no_event_ends_the_bridge_whatever_is_in_it(
    hook: Hook, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    odd = MessageBuilder("net@1", "stream", "\r\nX-Header: injected\n👋")
    with Web() as web:
        bridge = hook(web.url, body=Body("$label $length_s"))
        bridge.take(event("start", build=odd))
        bridge.take(msgspec.structs.replace(event("end"), t_end_us=10**400))
        bridge.take(event("end"))
        wait_for(lambda: bridge.counts() == {"events": 3, "sent": 2, "given up": 1, "dropped": 0})
        assert "X-Header" not in web.got[0][0]
        assert web.got[1][1] == b"wave 1.0"
    assert "an event could not be sent" in caplog.text


def test_only_chosen_events_are_posted(hook: Hook, wait_for: WaitFor) -> None:
    with Web() as web:
        bridge = hook(web.url, Choice(["wave", "clap"], ["start"]))
        for label in ("wave", "jump", "clap"):
            bridge.take(event("start", label))
            bridge.take(event("end", label))
        wait_for(lambda: bridge.counts()["sent"] == 2)
        assert [json.loads(body)["label"] for _, body in web.got] == ["wave", "clap"]


def test_a_receiver_that_fails_is_asked_again_but_not_for_ever(hook: Hook, wait_for: WaitFor) -> None:
    with Web(answers=[503, 429, 500, 502]) as web:
        bridge = hook(web.url, tries=4)
        bridge.take(event("start"))
        bridge.take(event("end"))
        wait_for(lambda: bridge.counts() == {"events": 2, "sent": 1, "given up": 1, "dropped": 0})
        assert len(web.got) == 5


@pytest.mark.parametrize(
    ("status", "told"), [(404, "answers 404"), (401, "not allowed"), (307, "redirection, which is not followed")]
)
def test_an_answer_that_stays_the_same_is_not_asked_for_again(
    hook: Hook, wait_for: WaitFor, status: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Web(answers=[status], Location="/other") as web:
        bridge = hook(web.url)
        bridge.take(event("start"))
        wait_for(lambda: bridge.counts()["given up"] == 1)
        assert len(web.got) == 1
    assert told in caplog.text


def test_a_receiver_says_how_long_to_wait(hook: Hook, wait_for: WaitFor) -> None:
    with Web(answers=[503], Retry_After="30") as web:
        bridge = hook(web.url)
        bridge.take(event("start"))
        wait_for(lambda: len(web.got) == 1)
        bridge.close()
        assert bridge.counts()["given up"] == 1
        assert len(web.got) == 1


def test_a_receiver_that_is_slow_costs_the_oldest_events_which_are_counted(hook: Hook, wait_for: WaitFor) -> None:
    with Web() as web:
        web.open.clear()
        bridge = hook(web.url, most=10, timeout_s=30)
        for number in range(10_000):
            bridge.take(event("start", f"wave {number}"))
        assert bridge.counts()["dropped"] >= 10_000 - 11
        web.open.set()
        wait_for(lambda: sum(bridge.counts().values()) == 20_000)
        assert json.loads(web.got[-1][1])["label"] == "wave 9999"


def test_a_receiver_that_comes_back_is_told_of_once(
    hook: Hook, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    bridge = hook(f"http://127.0.0.1:{port}/secret-path", tries=100, pause_s=0.05)
    bridge.take(event("start"))
    wait_for(lambda: "cannot be reached: Connection refused" in caplog.text)
    with Web(port=port):
        wait_for(lambda: bridge.counts()["sent"] == 1)
    assert "takes events again" in caplog.text
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2
    assert "secret-path" not in caplog.text


def test_a_receiver_that_answers_a_byte_at_a_time_is_left(
    hook: Hook, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stop.wait(0.05):
                    connection.sendall(b"x")

        threading.Thread(target=_quietly, args=(drip,), daemon=True).start()
        bridge = hook(f"http://127.0.0.1:{server.getsockname()[1]}/", tries=1, timeout_s=0.3)
        bridge.take(event("start"))
        wait_for(lambda: bridge.counts()["given up"] == 1)
        stop.set()
    assert "no answer in time" in caplog.text


def test_what_is_no_web_server_is_told(hook: Hook, wait_for: WaitFor, caplog: pytest.LogCaptureFixture) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(1 << 16)

        threading.Thread(target=_quietly, args=(speak,), daemon=True).start()
        bridge = hook(f"http://127.0.0.1:{server.getsockname()[1]}/", tries=1)
        bridge.take(event("start"))
        wait_for(lambda: bridge.counts()["given up"] == 1)
    assert "is no HTTP" in caplog.text


def test_a_self_signed_certificate_is_refused_unless_it_is_named(
    hook: Hook, wait_for: WaitFor, caplog: pytest.LogCaptureFixture, certificate: tuple[Path, Path]
) -> None:
    made, key = certificate
    with Web() as web:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made, key)
        web.socket = context.wrap_socket(web.socket, server_side=True)
        url = web.url.replace("http://", "https://")
        refused = hook(url, tries=1)
        refused.take(event("start"))
        wait_for(lambda: refused.counts()["given up"] == 1)
        assert "is not trusted: self-signed certificate" in caplog.text
        trusting = hook(url, ca_file=made)
        trusting.take(event("start"))
        wait_for(lambda: trusting.counts()["sent"] == 1)


def test_the_end_does_not_wait_for_a_receiver_that_is_away(hook: Hook) -> None:
    bridge = hook("http://127.0.0.1:1/", pause_s=30)
    for _ in range(5):
        bridge.take(event("start"))
    bridge.close()
    assert bridge.counts() == {"events": 5, "sent": 0, "given up": 5, "dropped": 0}


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://", "http:///path", "http://a:99999/", "http://[::1/", "http://a b/", "http://ä/", "x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="the webhook's address is not http://HOST/PATH"):
        parse_target(url)


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError:
        return
