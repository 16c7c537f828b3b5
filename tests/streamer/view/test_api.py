"""The run over HTTP, asked by programs, and by those who should get nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from socket import create_connection, socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from streamer.errors import ConfigError, StreamerError
from streamer.labels.requests import ask as ask_control
from streamer.view import api
from streamer.view.asking import NO_CONTROL, NO_RUN, NOT_YOURS, Run, reaches_in
from streamer.view.server import PageServer

from ..commands.test_cli import SCRIPTED, start
from .conftest import Serve
from .peers import PATIENCE_S, Speaker
from .programs import JSON, Told, as_another_user, ask, conforms, raw
from .test_process import page_of

__all__ = ["start"]  # a fixture

TOKEN = "a token of ours"
SOURCE = {"uri": "pattern://still?fps=10&size=64x48", "name": "door"}


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can open a connection as another user")


def nobody(folder: Path, *, changes: bool = True) -> Run:
    """A run that never answers."""
    return Run(f"ipc://{folder}/nobody", changes=changes, clips=None)


def test_a_program_looks_adds_and_removes_and_is_told_what_ctl_is_told(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    control = f"ipc://{tmp_path}/control"
    page = page_of(start("run", "pattern://swipe?fps=10&size=160x120", *SCRIPTED, "--no-publish", "--view",
                         "127.0.0.1:0", "--set", f"control={control}"))  # fmt: skip

    def ctl(**request: Any) -> str:
        with pytest.raises(ConfigError) as refused:
            ask_control(control, request)
        return str(refused.value)

    (swipe,) = conforms("get", "/api/streams", ask(page, "GET", "streams")).body["streams"]
    assert swipe.items() >= {"stream": "swipe", "uri": "pattern://swipe?fps=10&size=160x120", "epoch": 0}.items()
    model = conforms("get", "/api/model", ask(page, "GET", "model")).body
    assert ask_control(control, {"command": "status"}).items() >= model.items()

    added = conforms("post", "/api/streams", ask(page, "POST", "streams", SOURCE))
    assert (added.status, added.body, added.headers["Location"]) == (201, {"stream": "door"}, "/api/streams/door")
    door = conforms("get", "/api/streams/{name}", ask(page, "GET", "streams/door")).body
    assert door["uri"] == SOURCE["uri"]
    views = {"uri": SOURCE["uri"], "name": "hall", "views": {"a": [0, 0, 0.5, 1], "b": [0.5, 0, 1, 1]}}
    assert conforms("post", "/api/streams", ask(page, "POST", "streams", views)).body["streams"] == ["hall-a", "hall-b"]
    for wrong in (SOURCE, {"uri": "rtps://camera/1"}, "/etc/nothing.mp4", {"uri": "0", "nmae": "x"}, {}, ["rtsp://x"]):
        refused = conforms("post", "/api/streams", ask(page, "POST", "streams", wrong))
        assert refused.status == (400 if wrong == ["rtsp://x"] else 422)
        assert refused.error == ctl(command="add", source=wrong) or refused.status == 400

    gone = conforms("delete", "/api/streams/{name}", ask(page, "DELETE", "streams/door"))
    assert (gone.status, gone.body) == (200, {"stream": "door"})
    for method in ("DELETE", "GET"):
        missing = conforms(method.lower(), "/api/streams/{name}", ask(page, method, "streams/hall-c"))
        assert (missing.status, missing.error) == (404, ctl(command="remove", stream="hall-c"))
    assert ask(page, "HEAD", "streams").headers["Content-Type"] == "application/json"
    assert [one["stream"] for one in ask(page, "GET", "streams").body["streams"]] == ["swipe", "hall-a", "hall-b"]


def test_events_are_told_by_their_newest_message_and_none_is_missed_from_answer_to_answer(serve: Serve) -> None:
    page = serve()
    speaker = Speaker(page)
    assert ask(page, "GET", "events").body["kept_from_us"] is None
    before = ask(page, "GET", "events").body["next"]
    speaker.status()
    speaker.end(speaker.start("wave"))
    nod = speaker.start("nod", "door")

    def told(query: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        answer = conforms("get", "/api/events", ask(page, "GET", f"events?{query}")).body
        assert answer["missed"] is None
        return [(one["label"], one["type"]) for one in answer["events"]], answer

    assert told(f"since={before}")[0] == [("wave", "end"), ("nod", "start")]
    events, first = told("")
    assert (events, first["more"]) == ([("wave", "end"), ("nod", "start")], False)
    assert told(f"since={first['next']}")[0] == []
    speaker.end(nod, "door")
    speaker.start("clap")
    assert told(f"since={first['next']}")[0] == [("nod", "end"), ("clap", "start")]
    events, part = told(f"since={first['next']}&limit=1")
    assert (events, part["more"]) == ([("nod", "end")], True)
    assert told(f"since={part['next']}&limit=1")[0] == [("clap", "start")]
    assert told("limit=1")[0] == [("clap", "start")]  # without `since` the newest
    assert told("stream=door")[0] == [("nod", "end")]
    assert told("label=wave&stream=cam")[0] == [("wave", "end")]
    assert told(f"since={speaker.said[-1].ts.pub_us - 1}")[0] == [("clap", "start")]


def test_who_asks_for_what_is_not_kept_any_more_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.view.feed.MOST_EVENTS", 2)
    page = serve()
    speaker = Speaker(page)
    speaker.status()
    old = ask(page, "GET", "events").body["next"]
    speaker.end(speaker.start("wave"))
    recent = ask(page, "GET", "events").body["next"]
    for _ in range(2):
        speaker.end(speaker.start("nod"))

    def missed(since: object) -> bool:
        return bool(ask(page, "GET", f"events?since={since}").body["missed"] == api._MISSED)

    kept_from_us = ask(page, "GET", "events").body["kept_from_us"]
    assert missed(old)
    assert not missed(recent)
    assert (missed(kept_from_us - 2), missed(kept_from_us)) == (True, False)
    assert missed("0@00000000")  # of a page that has been started again
    late = ask(page, "GET", "events").body["next"]
    speaker.build.event("cam", speaker.stamp(), speaker.start("lost on the way"))  # numbered, and never heard
    assert not missed(late)
    speaker.end(speaker.start("wave"))
    assert missed(late)
    Speaker(page).status()  # the publisher was restarted
    assert missed(late)


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "events?sinc=1", 400, "there is no parameter 'sinc'; did you mean 'since'?"),
        ("GET", "events?since=yesterday", 400, "since: give `next`"),
        ("GET", "events?since=-5", 400, "since: give `next`"),
        ("GET", "events?since=" + "9" * 19, 400, "since: give `next`"),
        ("GET", "events?since=%D9%A3", 400, "since: give `next`"),
        ("GET", "events?limit=0", 400, "from 1 to 1000"),
        ("GET", "events?limit=1001", 400, "from 1 to 1000"),
        ("GET", "events?limit=1&limit=2", 400, "given twice"),
        ("GET", "events?" + "&".join(f"a{n}" for n in range(1500)), 400, "there is no parameter 'a0'"),
        ("GET", "streams?x=1", 400, "known are none"),
        ("GET", "evnts", 404, "here are /api/, /api/streams"),
        ("GET", "events/5", 404, "here are /api/"),
        ("GET", "streams/../model", 404, "there is no stream"),
        ("POST", "events", 405, "/api/events answers GET"),
        ("PUT", "streams/door", 405, "answers GET, DELETE"),
        ("OPTIONS", "streams", 405, "answers GET, POST"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told_in_a_sentence(
    serve: Serve, tmp_path: Path, method: str, path: str, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask_run(self: Run, request: object) -> dict[str, Any]:
        return {"ok": {"streams": []}}

    monkeypatch.setattr(Run, "ask", ask_run)
    answer = ask(serve(run=nobody(tmp_path)), method, path)
    assert (answer.status, told in answer.error) == (status, True), answer.error
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer a token of ourS", "Basic YTpi", f"Token {TOKEN}", "Bearer ä"])
def test_without_the_token_a_page_that_has_one_tells_nothing(
    serve: Serve, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "REFUSAL_S", 0)
    page = serve(token=TOKEN, run=nobody(tmp_path))
    for method, path, body in (("GET", "events", None), ("GET", "streams", None), ("POST", "streams", SOURCE),
                               ("DELETE", "streams/door", None), ("GET", f"events?token={TOKEN}", None)):  # fmt: skip
        answer = ask(page, method, path.replace(" ", "%20"), body, Authorization=given)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert ask(page, "GET", "events", Authorization=f"bearer {TOKEN}").status == 200
    assert ask(page, "GET", "openapi.json").status == 200  # holds no secrets


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_a_page_of_another_site_gets_nothing_and_changes_nothing(
    serve: Serve, tmp_path: Path, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> None:
        raise AssertionError("the run was asked")

    monkeypatch.setattr(Run, "ask", reached)
    page = serve(run=nobody(tmp_path))
    for method, path, body in (
        ("GET", "events", ""),
        ("POST", "streams", json.dumps(SOURCE)),
        ("DELETE", "streams/door", ""),
    ):
        fields = {"Host": urlsplit(page.url).netloc, **JSON, **headers, "Content-Length": str(len(body))}
        lines = [f"{method} /api/{path} HTTP/1.1", *(f"{name.replace('_', '-')}: {fields[name]}" for name in fields)]
        assert raw(page, "\r\n".join([*lines, "", body]).encode()).startswith(b"HTTP/1.1 403 ")


def test_the_page_itself_may_ask_in_a_browser(serve: Serve) -> None:
    page = serve()
    assert ask(page, "GET", "events", Origin=page.url.rstrip("/"), Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Type: text/plain\r\nContent-Length: 2", b"{}", 415),
        (b"Content-Length: 2", b"{}", 415),
        (b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2", b"{}", 415),
        (b"Content-Type: application/json", b"", 411),
        (b"Content-Type: application/json\r\nTransfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", 411),
        (b"Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", b"{}", 411),
        (b"Content-Type: application/json\r\nContent-Length: -2", b"", 400),
        (b"Content-Type: application/json\r\nContent-Length: \xb2", b"", 400),
        (b"Content-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3", b"{}", 400),
        (b"Content-Type: application/json\r\nContent-Length: 16385", b"", 413),
        (b"Content-Type: application/json\r\nContent-Length: 99999999999999999", b"x" * 100_000, 413),
        (b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 1", b"{", 400),
        (b"Content-Type: application/json\r\nContent-Length: 16000", b"[" * 16_000, 400),
        (b"Content-Type: application/json\r\nContent-Length: 4", b"true", 400),
        (b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 3", b"\xff\xfe}", 400),
    ],
)  # fmt: skip
def test_a_body_that_is_no_short_json_is_refused_and_not_waited_for(
    serve: Serve, tmp_path: Path, head: bytes, body: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    said = raw(serve(run=nobody(tmp_path)), b"POST /api/streams HTTP/1.1\r\nHost: HOST\r\n" + head + b"\r\n\r\n" + body)
    if b"Expect" in head:
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        said = said.partition(b"\r\n\r\n")[2]
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert not caplog.records


def test_a_body_that_does_not_come_and_a_program_that_does_not_leave_are_given_up(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[[Callable[[], Any]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("streamer.web.PATIENCE_S", 0.3)
    monkeypatch.setattr(api, "PATIENCE_S", 0.3)
    monkeypatch.setattr("streamer.view.asking.ANSWER_S", 0.05)
    page = serve(run=nobody(tmp_path))
    head = b"POST /api/streams HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    assert raw(page, head + b'{"uri"') == b""
    host, port = urlsplit(page.url).netloc.split(":")
    with create_connection((host, int(port)), timeout=PATIENCE_S) as stays:
        stays.sendall(f"GET /api/streams HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        said = b"".join(iter(lambda: stays.recv(4096), b""))
        assert said.endswith(b'{"error":"the run did not answer within 0.05 s"}\n')

        def gone() -> bool:
            try:
                stays.sendall(b"x")
            except OSError:
                return True
            return False

        wait_for(gone)
    assert not caplog.records


def test_a_run_that_does_not_answer_is_told_and_only_a_few_may_wait(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released = threading.Event(), threading.Event()

    async def ask_run(self: Run, request: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        await asyncio.to_thread(released.wait, PATIENCE_S)
        raise StreamerError("it did not answer")

    monkeypatch.setattr(api, "MOST_ASKED", 1)
    monkeypatch.setattr(Run, "ask", ask_run)
    page = serve(run=nobody(tmp_path))
    answers: list[Told] = []
    first = threading.Thread(target=lambda: answers.append(ask(page, "GET", "streams")), daemon=True)
    first.start()
    assert asked.wait(PATIENCE_S)
    second = ask(page, "GET", "model")
    assert (second.status, second.headers["Retry-After"]) == (503, "1")
    released.set()
    first.join(PATIENCE_S)
    assert (answers[0].status, answers[0].error) == (504, "it did not answer")
    assert ask(page, "GET", "model").status == 504  # there is room again


def test_a_page_without_a_run_and_a_run_that_takes_no_commands_say_so(serve: Serve, tmp_path: Path) -> None:
    alone, closed = serve(), serve(run=nobody(tmp_path, changes=False))
    for method, path, body in (("POST", "streams", SOURCE), ("DELETE", "streams/door", None)):
        assert ask(alone, method, path, body).error == NO_RUN
        assert (told := ask(closed, method, path, body)).error == NO_CONTROL
        assert told.status == 403
    assert (ask(alone, "GET", "streams").status, ask(alone, "GET", "model").error) == (409, NO_RUN)
    assert ask(alone, "GET", "events").status == 200


@needs_root
def test_a_program_of_another_user_may_look_and_change_nothing(serve: Serve, tmp_path: Path) -> None:
    page = serve(run=nobody(tmp_path))
    assert ask(page, "GET", "events", sock=as_another_user(page)).status == 200
    for method, path, body in (("POST", "streams", SOURCE), ("DELETE", "streams/door", None)):
        refused = ask(page, method, path, body, sock=as_another_user(page))
        assert (refused.status, refused.error) == (403, NOT_YOURS)


@needs_root
def test_who_has_the_token_but_is_not_the_runs_user_opens_no_file_of_this_machine(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask_run(self: Run, request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": {"stream": "door"}}

    monkeypatch.setattr(Run, "ask", ask_run)
    page = serve(token=TOKEN, run=nobody(tmp_path))

    def add(page: PageServer, sock: socket | None) -> Told:
        return ask(page, "POST", "streams", "/etc/passwd", sock, Authorization=f"Bearer {TOKEN}")

    refused = add(page, as_another_user(page))
    assert (refused.status, "`streamer ctl add` takes all" in refused.error) == (403, True)
    assert add(page, None).status == 201


@pytest.mark.parametrize(
    ("source", "here"),
    [
        ("rtsp://camera/1", False), ({"uri": "HTTPS://camera/1"}, False), ("pattern://swipe", False), (0, True),
        ("0", True), ("clip.mp4", True), ("-", True), ("v4l2:name", True), ("file:///etc/passwd", True), ({}, True),
        (" rtsp://camera/1", True), ("/rtsp://x", True), ({"uri": ["rtsp://"]}, True),
        ({"uri": "http://camera/1", "password_file": "/etc/shadow"}, True),
    ],
)  # fmt: skip
def test_only_cameras_of_the_network_and_patterns_reach_nothing_of_this_machine(source: Any, here: bool) -> None:
    assert reaches_in(source) == here
