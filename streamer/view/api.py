"""The run over HTTP, for programs: /api/streams, /api/events, /api/model. openapi.py describes it, at /api/.

Answers are JSON. What cannot be done is `{"error": "..."}`, with the sentence that `streamer ctl` tells. To look and to
change something the rules of the page apply (auth.py, asking.py), and a request that another site's page makes in a
browser is refused: it says so itself (`Origin`, `Sec-Fetch-Site`), or its body is no JSON.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
import zmq

from engines.errors import did_you_mean
from streamer.errors import StreamerError
from streamer.labels.control import MAX_REQUEST_BYTES
from streamer.view.asking import NO_RUN, Run, reaches_in, told, why_not
from streamer.view.auth import Guard, is_ours
from streamer.view.feed import Feed
from streamer.view.openapi import Added, Events, Model, Problem, Removed, Stream, Streams
from streamer.web import PATIENCE_S, Page, Request, Visitor

MOST_ASKED = 16  # requests of all programs that wait for the run
MOST_EVENTS, EVENTS = 1000, 100  # in an answer, and unless something else is asked for
REFUSAL_S = 1.0  # a wrong token is answered late, so that guessing is slow

_SINCE = re.compile(r"[0-9]{1,18}(@[0-9a-f]{8})?")
_ELSEWHERE = (
    "of a program that is not of the run's user only network cameras (rtsp://, http://) and patterns are taken, and no "
    "password_file; `streamer ctl add` takes all sources"
)
_MISSED = "events are missing before the first of these: so far back not all are kept, or `next` was of another run"

Answer = Callable[["Api", Visitor, Request], Awaitable[Page]]


class Refusal(Exception):  # noqa: N818
    """Why a request is not answered, in a sentence."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.page = _json(Problem(why), status, **{name.replace("_", "-"): value for name, value in headers.items()})


class Api:
    """Answers all below /api/. For one event loop."""

    def __init__(self, guard: Guard, feed: Feed, run: Run | None) -> None:
        self._guard, self._feed, self._run = guard, feed, run
        self._asking = 0

    async def __call__(self, visitor: Visitor, request: Request) -> None:
        """Answer a request."""
        try:
            answer = await self._answer(visitor, request)
        except Refusal as refused:
            answer = refused.page
        await asyncio.wait_for(visitor.answer(answer, whole=request.method != "HEAD"), PATIENCE_S)

    async def _answer(self, visitor: Visitor, request: Request) -> Page:
        path, _, name = request.path.removeprefix("/api/").partition("/")
        answers = _PLACES.get(f"{path}/NAME" if name else path)
        if answers is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"here are /api/, {', '.join(f'/api/{place}' for place in _PLACES)}")
        method = "GET" if request.method == "HEAD" else request.method
        if method not in answers:
            allowed = ", ".join(answers)
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} answers {allowed}", Allow=allowed)
        await self._check(request)
        return await answers[method](self, visitor, request)

    async def _check(self, request: Request) -> None:
        """Refuse pages of other sites, and who has no token where one is needed."""
        foreign = request.origin is not None and not self._guard.knows_page(request.host, request.origin)
        if foreign or request.fields.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(HTTPStatus.FORBIDDEN, "a page of another site asks, and is not answered")
        kind, _, token = request.fields.get("authorization", "").partition(" ")
        if not self._guard.accepts(token.strip() if kind.lower() == "bearer" else None):
            await asyncio.sleep(REFUSAL_S)
            why = "the token is missing or wrong; send the header `Authorization: Bearer TOKEN` with the view's token"
            raise Refusal(HTTPStatus.UNAUTHORIZED, why, WWW_Authenticate="Bearer")

    async def _ask(self, visitor: Visitor, **asked: Any) -> dict[str, Any]:
        """The run's reply."""
        if self._run is None:
            raise Refusal(HTTPStatus.CONFLICT, NO_RUN)
        if self._asking >= MOST_ASKED:
            why = f"{MOST_ASKED} requests wait for the run already; ask again later"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, why, Retry_After="1")
        visitor.welcome()
        self._asking += 1
        try:
            return await self._run.ask(asked)
        except (StreamerError, zmq.ZMQError) as error:
            raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, told(error)) from error
        finally:
            self._asking -= 1

    async def _report(self, visitor: Visitor) -> dict[str, Any]:
        """What the run says of itself."""
        reply = await self._ask(visitor, command="status")
        if "error" in reply:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reply["error"])
        report: dict[str, Any] = reply["ok"]
        return report

    async def _known(self, visitor: Visitor) -> list[Stream]:
        """The streams of the run."""
        streams = []
        for one in (await self._report(visitor))["streams"]:
            state = self._feed.state(one["stream"])
            streams.append(
                Stream(**one, label=state.label if state else None, since_us=state.since_us if state else None)
            )
        return streams

    async def streams(self, visitor: Visitor, request: Request) -> Page:
        """All streams."""
        _query(request)
        return _json(Streams(await self._known(visitor)))

    async def stream(self, visitor: Visitor, request: Request) -> Page:
        """One of them."""
        _query(request)
        name, known = _name(request), await self._known(visitor)
        for one in known:
            if one.stream == name:
                return _json(one)
        near = did_you_mean(name, [one.stream for one in known], "/api/streams names them")
        raise Refusal(HTTPStatus.NOT_FOUND, told(ValueError(f"there is no stream {name!r}; {near}")))

    async def add(self, visitor: Visitor, request: Request) -> Page:
        """Begin the streams of one more source."""
        _query(request)
        self._may_change(visitor)
        try:
            source: Any = msgspec.json.decode(await _body(visitor, request), type=int | str | dict[str, Any])
        except (ValueError, RecursionError) as error:
            why = f'cannot read the request: {error}; send a source in JSON, such as {{"uri": "rtsp://camera/1"}}'
            raise Refusal(HTTPStatus.BAD_REQUEST, told(ValueError(why))) from error
        if reaches_in(source) and not is_ours(*visitor.ends):
            raise Refusal(HTTPStatus.FORBIDDEN, _ELSEWHERE)
        reply = await self._ask(visitor, command="add", source=source)
        if "error" in reply:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reply["error"])
        added = msgspec.convert(reply["ok"], Added)
        return _json(added, HTTPStatus.CREATED, Location=f"/api/streams/{added.stream}")

    async def remove(self, visitor: Visitor, request: Request) -> Page:
        """End a stream."""
        _query(request)
        self._may_change(visitor)
        name = _name(request)
        is_known = any(one.stream == name for one in await self._known(visitor))
        reply = await self._ask(visitor, command="remove", stream=name)
        if "error" in reply:
            raise Refusal(HTTPStatus.CONFLICT if is_known else HTTPStatus.NOT_FOUND, reply["error"])
        return _json(msgspec.convert(reply["ok"], Removed))

    def _may_change(self, visitor: Visitor) -> None:
        may_change = self._guard.token is not None or is_ours(*visitor.ends)
        if why := why_not(self._run, may_change=may_change):
            raise Refusal(HTTPStatus.CONFLICT if why == NO_RUN else HTTPStatus.FORBIDDEN, why)

    async def events(self, _visitor: Visitor, request: Request) -> Page:
        """What happened."""
        asked = _query(request, "since", "stream", "label", "limit")
        since, limit = asked.get("since"), asked.get("limit", str(EVENTS))
        if since is not None and not _SINCE.fullmatch(since):
            why = "since: give `next` of the last answer, or a time in microseconds UTC"
            raise Refusal(HTTPStatus.BAD_REQUEST, why)
        if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MOST_EVENTS:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"limit: give a number from 1 to {MOST_EVENTS}")
        begin = int(since) if since and since.isdecimal() else since
        past = self._feed.events(begin, int(limit), asked.get("stream"), asked.get("label"))
        return _json(Events(past.events, past.next, past.more, past.kept_from_us, None if past.whole else _MISSED))

    async def model(self, visitor: Visitor, request: Request) -> Page:
        """The model that runs, and the settings of events that it obeys."""
        _query(request)
        return _json(msgspec.convert(await self._report(visitor), Model))


_PLACES: dict[str, Mapping[str, Answer]] = {
    "streams": {"GET": Api.streams, "POST": Api.add},
    "streams/NAME": {"GET": Api.stream, "DELETE": Api.remove},
    "events": {"GET": Api.events},
    "model": {"GET": Api.model},
}


def _json(told: Any, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Page:
    return Page(msgspec.json.encode(told) + b"\n", "application/json", status, headers)


def _name(request: Request) -> str:
    """The stream that the path names."""
    return unquote(request.path.removeprefix("/api/streams/"))


def _query(request: Request, *known: str) -> dict[str, str]:
    """The parameters of a request, each given once."""
    pairs = parse_qsl(request.query, keep_blank_values=True)
    asked = dict(pairs)
    for name, _ in pairs:
        if name not in known:
            near = did_you_mean(name, known, f"known are {', '.join(known) or 'none'}")
            raise Refusal(HTTPStatus.BAD_REQUEST, f"there is no parameter {name[:64]!r}; {near}")
    if len(asked) < len(pairs):
        raise Refusal(HTTPStatus.BAD_REQUEST, "a parameter is given twice; give it once")
    return asked


async def _body(visitor: Visitor, request: Request) -> bytes:
    """What is sent with a request."""
    kind = request.fields.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in request.fields:
        why = "send JSON as it is, with the header `Content-Type: application/json`"
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, why)
    length = request.fields.get("content-length", "")
    if "transfer-encoding" in request.fields or not length:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "send the header `Content-Length`, and no `Transfer-Encoding`")
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length: is no number")
    if int(length) > MAX_REQUEST_BYTES:
        why = f"a request has {MAX_REQUEST_BYTES} bytes at most"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
    if request.fields.get("expect", "").lower() == "100-continue":
        visitor.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await visitor.reader.readexactly(int(length))
