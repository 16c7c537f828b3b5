from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from streamer.errors import ConfigError
from streamer.health import endpoint
from streamer.health.endpoint import MOST_CONNECTIONS, Endpoint, Page

from .monitored import get


def hello() -> Page:
    return Page(b"hello", "text/plain")


def broken() -> Page:
    raise RuntimeError("rtsp://me:secret@camera: this page is broken")


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    with closing(Endpoint("127.0.0.1:0", {"/hello": hello, "/broken": broken}, "metrics")) as open_endpoint:
        host, port = open_endpoint.address.split(":")
        yield host, int(port)


def asked(address: tuple[str, int], request: bytes) -> bytes:
    """All that the server says to some bytes."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(request)
        answer = b""
        try:
            while part := client.recv(4096):
                answer += part
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /hello?x=1 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
        (b"GET /../hello HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (b"hello\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /hello HTTP/2\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\xff\x00 \x80\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /hello HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b""),
    ],
)
def test_a_request_is_answered_by_its_path_and_what_is_none_is_refused(
    served: tuple[str, int], request_: bytes, answer: bytes
) -> None:
    said = asked(served, request_)
    assert said.partition(b"\n")[0] + b"\n" * bool(said) == answer
    assert said.endswith(b"hello") == (b"200" in answer)
    assert get("{}:{}".format(*served), "/hello") == (200, b"hello")


def test_a_client_that_says_nothing_keeps_nobody_waiting_and_is_given_up(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PATIENCE_S", 0.2)
    with socket.create_connection(served, timeout=30) as silent:
        silent.sendall(b"GET /hello")
        assert get("{}:{}".format(*served), "/hello") == (200, b"hello")
        assert silent.recv(1) == b""


def test_there_are_at_most_so_many_connections_at_a_time(
    served: tuple[str, int], wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(served, timeout=30))
        assert asked(served, b"") == b""  # closed unheard, though it asked for nothing yet
    wait_for(lambda: asked(served, b"GET /hello HTTP/1.1\r\n\r\n").endswith(b"hello"))


def test_a_page_that_fails_is_logged_and_the_others_live(
    served: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert asked(served, b"GET /broken HTTP/1.1\r\n\r\n") == b""
    assert get("{}:{}".format(*served), "/hello") == (200, b"hello")
    assert "this page is broken" in caplog.text


def test_closing_while_a_client_is_connected_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        open_endpoint = Endpoint("127.0.0.1:0", {"/hello": hello}, "metrics")
        host, port = open_endpoint.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10):
            open_endpoint.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_closing_ends_the_thread_and_frees_the_address_also_while_a_client_is_connected() -> None:
    first = Endpoint("127.0.0.1:0", {"/hello": hello}, "metrics")
    host, port = first.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30):
        assert get(first.address, "/hello") == (200, b"hello")
        first.close()
        with closing(Endpoint(first.address, {"/hello": hello}, "metrics")) as second:
            assert get(second.address, "/hello") == (200, b"hello")
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("9464", "metrics: '9464' is not HOST:PORT; use 127.0.0.1:9464"),
        ("http://127.0.0.1:9464", "is not HOST:PORT"),
        ("127.0.0.1:99999", "is not HOST:PORT"),
        ("127.0.0.1:", "is not HOST:PORT"),
        (":9464", "is not HOST:PORT"),
        ("192.0.2.1:9464", "this machine has no such address; set metrics to one that it has"),
        ("nothing.invalid:9464", "metrics: cannot listen on nothing.invalid:9464"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_sentence(address: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(address, {}, "metrics")
    assert message in str(caught.value)


def test_an_address_in_use_is_told_with_what_to_do() -> None:
    with closing(Endpoint("127.0.0.1:0", {}, "metrics")) as first, pytest.raises(ConfigError) as caught:
        Endpoint(first.address, {}, "metrics")
    assert f"cannot listen on {first.address}: another program uses it" in str(caught.value)
    assert "set metrics to another port" in str(caught.value)


def test_a_public_address_works_and_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Endpoint("0.0.0.0:0", {"/hello": hello}, "metrics")) as public:
        port = public.address.split(":")[1]
        assert get(f"127.0.0.1:{port}", "/hello") == (200, b"hello")
    assert "anyone who can reach this machine can read" in caplog.text
