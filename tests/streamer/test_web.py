from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given

from streamer import web
from streamer.labels.addresses import listen
from streamer.web import Listener, Page
from tests.http_bytes import heads

from .health.monitored import get

MOST = 16


def hello() -> Page:
    return Page(b"hello", "text/plain")


def broken() -> Page:
    raise RuntimeError("rtsp://me:secret@camera: this page is broken")


def serve(address: str = "127.0.0.1:0") -> tuple[Listener, tuple[str, int]]:
    sock = listen(address, "metrics", "127.0.0.1:9464")
    pages = {"/hello": hello, "/broken": broken}
    return Listener(sock, pages, "metrics", knows=lambda request: request.host != "evil", most=MOST), sock.getsockname()


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    listener, address = serve()
    with closing(listener):
        yield address


def asked(address: tuple[str, int], request: bytes, *, end: bool = False) -> bytes:
    """All that the server says to some bytes; `end` says that there are no more."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(request)
        if end:
            client.shutdown(socket.SHUT_WR)
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
        (b"GET /hello HTTP/1.1\r\nHost: evil\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\n"),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nHost: evil\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /hello HTTP/1.1\r\nHost : x\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /hello HTTP/1.1\r\n Host: x\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /hello HTTP/1.1\r\n\r\nGET /hello HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
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
    assert said.endswith(b"\r\n\r\nhello") == (b"200" in answer)
    assert get("{}:{}".format(*served), "/hello") == (200, b"hello")


def test_head_says_what_get_says_without_the_body_and_other_methods_are_told_which_there_are(
    served: tuple[str, int],
) -> None:
    got = asked(served, b"GET /hello HTTP/1.1\r\n\r\n")
    assert asked(served, b"HEAD /hello HTTP/1.1\r\n\r\n") == got.removesuffix(b"hello")
    assert b"\r\nContent-Length: 5\r\n" in got
    assert asked(served, b"HEAD /nothing HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in asked(served, b"OPTIONS * HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("said", [b"", b"GET /hello", b"GET /hello HTTP/1.1\r\n\r\n"], ids=["silent", "slow", "stays"])
def test_a_client_that_does_not_come_to_an_end_keeps_nobody_waiting_and_is_given_up(
    served: tuple[str, int], said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE_S", 0.2)
    with socket.create_connection(served, timeout=30) as slow:
        slow.sendall(said)
        assert get("{}:{}".format(*served), "/hello") == (200, b"hello")
        answer = slow.recv(4096)
        assert answer.endswith(b"hello") == said.endswith(b"\n")
        with suppress(ConnectionResetError):
            assert not answer or slow.recv(1) == b""


def test_a_head_that_grows_by_a_byte_at_a_time_is_given_up_all_the_same(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE_S", 0.2)
    with socket.create_connection(served, timeout=0.01) as slow:
        for _ in range(10_000):
            try:
                slow.sendall(b"G")
                if not slow.recv(1):
                    break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("it is still heard")


def test_when_as_many_are_connected_as_may_be_the_oldest_that_says_nothing_goes(served: tuple[str, int]) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(served, timeout=30)) for _ in range(3 * MOST)]
        assert asked(served, b"GET /hello HTTP/1.1\r\n\r\n").endswith(b"hello")
        assert [client.recv(1) for client in silent[: 2 * MOST + 1]] == [b""] * (2 * MOST + 1)
        silent[-1].sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        assert silent[-1].recv(4096).endswith(b"hello")


def test_no_number_of_connections_takes_more_descriptors_than_there_may_be(served: tuple[str, int]) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with ExitStack() as stack:
        for number in range(10 * MOST):
            stack.enter_context(socket.create_connection(served, timeout=30))
            taken = descriptors() - before - number - 1  # the client's ends are here too
            assert taken <= MOST + 2 * web._BACKLOG
        assert asked(served, b"GET /hello HTTP/1.1\r\n\r\n").endswith(b"hello")


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(head=heads())
def test_whatever_bytes_come_there_is_an_answer_or_an_end_and_nothing_in_the_log(
    served: tuple[str, int], head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    said = asked(served, head)
    assert not said or said.startswith(b"HTTP/1.1 ")
    assert not said.startswith(b"HTTP/1.1 5")
    assert not caplog.records


def test_a_page_that_fails_is_logged_and_the_others_live(
    served: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert asked(served, b"GET /broken HTTP/1.1\r\n\r\n") == b""
    assert get("{}:{}".format(*served), "/hello") == (200, b"hello")
    assert "this page is broken" in caplog.text


def test_closing_while_a_client_is_connected_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        listener, address = serve()
        with socket.create_connection(address, 10):
            listener.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_closing_ends_the_thread_and_frees_the_address_also_while_a_client_is_connected() -> None:
    first, address = serve()
    with socket.create_connection(address, timeout=30):
        told = "{}:{}".format(*address)
        assert get(told, "/hello") == (200, b"hello")
        first.close()
        with closing(serve(told)[0]):
            assert get(told, "/hello") == (200, b"hello")
    assert "metrics" not in {thread.name for thread in threading.enumerate()}
