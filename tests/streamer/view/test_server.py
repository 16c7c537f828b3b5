"""The page's server, seen by viewers without a browser."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

import streamer.view.server
import streamer.view.viewer
import streamer.view.websocket
from streamer.labels.messages import encode
from streamer.types import Image
from streamer.view.auth import Guard
from streamer.view.server import PageServer
from tests.http_bytes import frames, heads, upgrade

from ..test_web import asked
from .conftest import Serve
from .peers import PATIENCE_S, Speaker, Viewer, dial, opened, picture

WaitFor = Callable[[Callable[[], Any]], None]
TOKEN = "a token of ours"


def get(page: PageServer, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of the answer to a request with this path, as it is written here."""
    with closing(http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=PATIENCE_S)) as connection:
        connection.putrequest("GET", path)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def address_of(page: PageServer) -> tuple[str, int]:
    host, port = urlsplit(page.url).netloc.split(":")
    return host, int(port)


@pytest.fixture
def served(serve: Serve) -> PageServer:
    page = serve(newest=lambda _: picture(0))
    Speaker(page).state("wave")
    return page


def close_code(viewer: Viewer) -> int | None:
    """Why the server ends the conversation."""
    with pytest.raises(ConnectionClosed) as closed:
        for _ in viewer.texts():
            pass
    return closed.value.rcvd.code if closed.value.rcvd else None


def test_the_page_and_its_parts_are_served_with_a_strict_policy(serve: Serve) -> None:
    page = serve()
    assert asked(address_of(page), b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")
    for path, kind in (("/", "text/html"), ("/style.css", "text/css"), ("/view.js", "text/javascript")):
        status, headers, _ = get(page, path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/page/index.html", "/view.js/", "/%00", "/?/../x"]
)
def test_no_path_leads_to_another_file(serve: Serve, path: str) -> None:
    status, _, body = get(serve(), path)
    assert (status == 404 and body.startswith(b"here are /")) or body.startswith(b"<!doctype html>")
    assert b"import" not in body


def test_viewers_get_the_published_payloads_byte_for_byte(serve: Serve) -> None:
    page = serve()
    speaker = Speaker(page)
    speaker.status()
    with Viewer(page) as viewer:
        texts = viewer.texts()
        hello, status = json.loads(first := next(texts))
        assert (hello["kind"], hello["pictures"]) == ("view", False)
        assert first.endswith(f",{encode(speaker.said[0]).decode()}]")
        assert status["kind"] == "status"
        speaker.score([("wäve", 0.75), ("none", 0.25)])
        assert next(texts) == f"[{encode(speaker.said[-1]).decode()}]"


def test_a_late_viewer_gets_the_last_events_and_where_things_stand(serve: Serve) -> None:
    page = serve()
    speaker = Speaker(page)
    speaker.status()
    speaker.end(speaker.start("wave"))
    for score in (0.25, 0.5, 0.75):
        speaker.state("wave", score=score)
    with Viewer(page) as viewer:
        told = json.loads(next(viewer.texts()))
    assert [message["kind"] for message in told] == ["view", "status", "event", "state"]
    assert told[-1]["score"] == 0.75


def test_a_viewer_may_ask_for_the_events_of_the_last_hour(serve: Serve) -> None:
    page = serve()
    speaker = Speaker(page)
    for stream in ("cam", "door"):
        speaker.end(speaker.start("wave", stream), stream)
    speaker.start("nod")
    with Viewer(page) as viewer:
        labels = viewer.labels()
        next(labels)
        viewer.say(past="cam")
        past = next(told for told in labels if told["kind"] == "past")
        assert (past["stream"], [(one["label"], one["type"]) for one in past["messages"]]) == (
            "cam",
            [("wave", "end"), ("nod", "start")],
        )
        viewer.say(past="unheard of")
        assert next(told for told in labels if told["kind"] == "past")["messages"] == []


def test_a_publisher_that_was_restarted_leaves_nothing_of_its_old_session(serve: Serve) -> None:
    page = serve()
    Speaker(page).state("old", stream="gone")
    Speaker(page).state("new")
    with Viewer(page) as viewer:
        assert [message.get("stream") for message in json.loads(next(viewer.texts()))] == [None, "cam"]


def test_pictures_are_sent_to_those_who_look_the_newest_and_one_at_a_time(serve: Serve, wait_for: WaitFor) -> None:
    newest: dict[str, Image] = {"cam": picture(0)}
    asked: list[str] = []

    def frame(stream: str) -> Image | None:
        asked.append(stream)
        return newest.get(stream)

    page = serve(newest=frame)
    speaker = Speaker(page)
    with Viewer(page) as viewer:
        labels = viewer.labels()
        assert next(labels)["pictures"] is True
        speaker.state("wave", stream="dark")
        speaker.state("wave")
        assert next(labels)["kind"] == "state"
        assert asked == []  # nobody looks, so nothing is made
        viewer.say(look={"cam": 320, "dark": 320, "unheard of": 320})
        stream, jpeg = viewer.picture()
        image = opened(jpeg)
        assert (stream, image.shape, image.mean()) == ("cam", (240, 320, 3), 0)
        for brightness in (50, 100, 150, 200):
            newest["cam"] = picture(brightness)
            count = len(asked)
            wait_for(lambda count=count: len(asked) > count + 1)  # type: ignore[misc]
        viewer.say(seen="cam")
        _, jpeg = viewer.picture()
        assert abs(opened(jpeg).mean() - 200) < 2
        viewer.say(look={})
    assert set(asked) == {"cam", "dark"}  # no name that a browser makes up is asked for


def test_a_picture_is_encoded_once_for_all_viewers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    import streamer.view.pictures

    made: list[int] = []
    encode_picture = streamer.view.pictures.jpeg

    def counted(image: Image, level: streamer.view.pictures.Level) -> bytes:
        made.append(level.width)
        return encode_picture(image, level)

    monkeypatch.setattr(streamer.view.pictures, "jpeg", counted)
    image = picture(100)
    page = serve(newest=lambda _: image)
    Speaker(page).status()
    viewers = [Viewer(page) for _ in range(5)]
    for viewer in viewers:
        viewer.say(look={"cam": 640})
    assert len({viewer.picture() for viewer in viewers}) == 1
    assert made == [640]
    for viewer in viewers:
        viewer.close()


@pytest.mark.parametrize(
    "said",
    [
        "garbage", "[]", '{"look": "cam"}', '{"seen": 1}', '{"run": "rm"}', b"\xff\x00", "[" * 9999,
        '{"ask": []}', '{"id": 1e99}', '{"ask": {"a": ' + "[" * 9999,
    ],
)  # fmt: skip
def test_garbage_ends_that_viewer_and_no_other(serve: Serve, said: str | bytes) -> None:
    page = serve(newest=lambda _: None)
    speaker = Speaker(page)
    with Viewer(page) as good, Viewer(page) as bad:
        bad.socket.send(said)
        assert close_code(bad) == streamer.view.viewer.BAD_REQUEST
        labels = good.labels()
        assert next(labels)["kind"] == "view"
        speaker.state("wave")
        assert next(labels)["label"] == "wave"


def test_a_huge_message_is_refused_before_it_is_read(serve: Serve) -> None:
    with Viewer(serve()) as viewer:
        viewer.socket.send(json.dumps({"seen": "x" * 1_000_000}))
        assert close_code(viewer) == 1009


def test_one_who_says_nothing_is_sent_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.view.viewer, "HELLO_S", 0.1)
    with dial(serve()) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(PATIENCE_S)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == streamer.view.viewer.TOO_LATE


@pytest.mark.parametrize("token", [None, "", "a token of ourS", TOKEN + "x", "ä" * 15])
def test_a_wrong_token_is_refused(serve: Serve, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.view.viewer, "REFUSAL_S", 0)
    page = serve(token=TOKEN)
    with Viewer(page, token) as viewer:
        assert close_code(viewer) == streamer.view.viewer.REFUSED
    with Viewer(page, TOKEN) as viewer:
        assert next(viewer.labels())["kind"] == "view"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_cannot_connect(serve: Serve, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), dial(serve(), origin=origin):
        pass


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.com", "http://evil.com"),
        ("[", "http://["),
        ("[::1", "http://[::1"),
        ("x", "http://["),
        ("127.0.0.1", ""),
        ("localhost.evil.com", "http://localhost.evil.com"),
        ("x@127.0.0.1", "http://x@127.0.0.1"),
        ("evil.com#@127.0.0.1", "http://evil.com#@127.0.0.1"),
        ("127.0.0.1\\@evil", "http://127.0.0.1\\@evil"),
        ("127.0.0.1", "\xff"),
        ("", ""),
    ],
)
def test_an_odd_host_or_origin_is_refused_and_nothing_is_logged(
    serve: Serve, host: str, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = upgrade(host, origin)
    for token in (None, TOKEN):
        said = asked(address_of(serve(token=token)), request, end=True)
        assert said.startswith(b"HTTP/1.1 403 ") or (token and origin.endswith(host))  # which must bring the token
    assert not caplog.records


def test_a_site_that_took_our_address_as_its_own_cannot_connect() -> None:
    """A name that resolves to 127.0.0.1 makes Host and Origin agree; without a token the name must be local."""
    assert Guard(None).knows_page("127.0.0.1:8080", "http://127.0.0.1:8080")
    assert Guard(None).knows_page("localhost:8080", "http://localhost:8080")
    assert Guard(None).knows_page("[::1]:8080", "http://[::1]:8080")
    assert not Guard(None).knows_page("evil.example:8080", "http://evil.example:8080")
    assert not Guard(None).knows_page("127.0.0.1:8080", None)
    assert not Guard("a token of ours").knows_page("box:8080", "http://evil.example")
    assert Guard("a token of ours").knows_page("box:8080", "https://box:8080")


def test_the_number_of_viewers_is_limited(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.view.server, "MOST_VIEWERS", 1)
    page = serve()
    with Viewer(page) as first:
        assert next(first.labels())["kind"] == "view"
        with Viewer(page) as second:
            assert close_code(second) == streamer.view.viewer.FULL


def test_who_has_not_shown_a_token_is_no_viewer_and_goes_first(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.view.server, "MOST_VIEWERS", 2)
    monkeypatch.setattr(streamer.view.server, "MOST_CONNECTIONS", 6)
    page = serve()
    with ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(page))]
        assert next(viewers[0].labels())["kind"] == "view"
        for _ in range(5):
            stack.enter_context(dial(page))
        viewers.append(stack.enter_context(Viewer(page)))
        assert next(viewers[1].labels())["kind"] == "view"
        for _ in range(10):
            stack.enter_context(socket.create_connection(address_of(page)))
        assert get(page, "/")[0] == 200
        Speaker(page).state("wave")
        for viewer in viewers:
            assert next(viewer.labels())["kind"] in ("view", "state")


@pytest.mark.parametrize("flood", [False, True], ids=["answers no ping", "never reads"])
def test_a_viewer_that_is_not_there_any_more_loses_its_seat(
    serve: Serve, flood: bool, monkeypatch: pytest.MonkeyPatch, wait_for: WaitFor
) -> None:
    monkeypatch.setattr(streamer.view.websocket, "PING_S", 0.2)
    page = serve()
    with socket.create_connection(address_of(page)) as silent:
        silent.sendall(upgrade(urlsplit(page.url).netloc, page.url.rstrip("/")))
        silent.sendall(b"\x81\x82\0\0\0\0{}")  # a masked text frame
        wait_for(lambda: bool(page.viewers))
        speaker = Speaker(page)

        def gone() -> bool:
            if flood:
                speaker.state("w" * 10_000)
            return not page.viewers

        wait_for(gone)


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(head=heads())
def test_whatever_bytes_come_there_is_an_answer_or_an_end_and_nothing_in_the_log(
    served: PageServer, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    said = asked(address_of(served), head, end=True)
    assert not said or said.startswith(b"HTTP/1.1 ")
    assert not said.startswith(b"HTTP/1.1 5")
    assert not caplog.records


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(frames=st.lists(frames(), max_size=5))
def test_whatever_frames_come_over_a_websocket_end_that_one_at_most(
    served: PageServer, frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    request = upgrade(urlsplit(served.url).netloc, served.url.rstrip("/"))
    said = asked(address_of(served), request + b"".join(frames), end=True)
    assert said.startswith(b"HTTP/1.1 101 ")
    assert not caplog.records


def test_closing_the_page_sends_viewers_away_and_frees_its_address(serve: Serve) -> None:
    page = serve()
    with Viewer(page) as viewer:
        assert next(viewer.labels())["kind"] == "view"
        page.close()
        assert close_code(viewer) == 1012
    again = serve(address=urlsplit(page.url).netloc)
    assert again.url == page.url
