"""One HTTP listener for every port of the program: pages made on request, and conversations (WebSockets, REST).

It is for few visitors at a time, and none of them can keep the others out. A connection gets one answer and is closed.
It has 5 seconds for everything, from its first byte to taking the answer; only a conversation that was welcomed goes
on. When as many connections are open as may be, one more takes the place of the oldest that says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

PATIENCE_S = 5.0
HEAD_BYTES = 8192
_BACKLOG = 16  # connections that wait to be accepted

_REQUEST = re.compile(rb"(?P<method>[A-Z]+) (?P<target>[!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\x00\n\r]*?)[ \t]*")
_ONCE = frozenset(
    {"host", "origin", "content-length", "content-type", "transfer-encoding", "authorization", "sec-fetch-site"}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a connection asks for: `path` is without the query; `head` is all of it, up to the empty line; `fields` are
    its fields, with their names in lower case.
    """

    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    head: bytes

    @property
    def host(self) -> str | None:
        """Under which name this machine was asked."""
        return self.fields.get("host")

    @property
    def origin(self) -> str | None:
        """The site whose page asks, by a browser."""
        return self.fields.get("origin")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Visitor:
    """One connection. `idle`: nothing of it is lost if it has to go."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    task: asyncio.Task[None]
    deadline: asyncio.TimerHandle
    idle: bool = True

    def welcome(self) -> None:
        """Let a conversation stay for as long as it likes."""
        self.deadline.cancel()
        self.idle = False

    async def answer(self, page: Page, *, whole: bool = True) -> None:
        """Send a page (without its body unless `whole`), and wait until the client closes: to abort before that would
        take the answer back.
        """
        self.idle = False
        length = {"Content-Type": page.content_type, "Content-Length": str(len(page.body))}
        self.begin(page.status, {**length, **page.headers}, page.body * whole)
        self.writer.write_eof()
        await self.writer.drain()
        self.idle = True
        while await self.reader.read(HEAD_BYTES):
            pass

    def begin(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send the head of an answer, and what follows it."""
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **headers,
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Address and port of the visitor, and of this end."""
        peer, here = (self.writer.get_extra_info(name) for name in ("peername", "sockname"))
        return peer[:2], here[:2]


Conversation = Callable[[Visitor, Request], Awaitable[None]]


class Listener:
    """Serves at a listening socket until it is closed. All functions that it is given run in its own thread.

    pages    path -> what makes the page
    talks    path -> a conversation, which answers for itself; a path that ends with / is for all that begin with it
    desks    the same for requests of any method, not of GET alone; but pages go first
    knows    whether a request may be answered, by its `Host`: on a loopback address a site in a browser could have its
             own name resolve to this machine, and read
    most     connections at a time
    """

    def __init__(
        self,
        sock: socket.socket,
        pages: Mapping[str, Callable[[], Page]],
        name: str,
        *,
        knows: Callable[[Request], bool],
        talks: Mapping[str, Conversation] | None = None,
        desks: Mapping[str, Conversation] | None = None,
        most: int = 16,
    ) -> None:
        self._socket, self._pages, self._knows, self._most = sock, pages, knows, most
        self._talks, self._desks = talks or {}, desks or {}
        self._visitors: dict[Visitor, None] = {}  # the oldest first
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._serve()], name=name, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the address; waits for the thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closed.set)
            self._thread.join()
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._socket, limit=HEAD_BYTES, backlog=_BACKLOG)
        await self._closed.wait()
        self._loop.remove_reader(self._socket)  # no more connections; those that came just now need an open server
        await asyncio.sleep(0.01)
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # what they gave up is closed at the loop's next turn

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task
        visitor = Visitor(reader, writer, task, self._loop.call_later(PATIENCE_S, task.cancel))
        try:
            if self._make_room():
                self._visitors[visitor] = None
                await self._attend(visitor)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a connection was given up: %s", error)
        except asyncio.CancelledError:  # asyncio of Python 3.11 logs an error if a handler stays cancelled
            log.debug("a connection took too long, had to go for another, or was closed with the listener")
        except Exception:
            log.exception("an answer failed")
        finally:
            visitor.deadline.cancel()
            self._visitors.pop(visitor, None)
            writer.transport.abort()

    def _make_room(self) -> bool:
        """Whether there is room for one more: if need be, the oldest that says nothing goes."""
        if len(self._visitors) >= self._most:
            oldest = next((visitor for visitor in self._visitors if visitor.idle), None)
            if oldest is None:
                return False
            del self._visitors[oldest]
            oldest.task.cancel()
        return True

    async def _attend(self, visitor: Visitor) -> None:
        """Hear a visitor, and answer."""
        request = read_head(await visitor.reader.readuntil(b"\r\n\r\n"))
        if request is None:
            await visitor.answer(text(HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1"))
        elif not self._knows(request):
            told = "this is no name of this machine; open the page as 127.0.0.1 or localhost"
            await visitor.answer(text(HTTPStatus.FORBIDDEN, told))
        elif talk := self._talk(request):
            await talk(visitor, request)
        else:
            await visitor.answer(self._page(request), whole=request.method != "HEAD")

    def _talk(self, request: Request) -> Conversation | None:
        """Who answers for itself; None if a page is the answer."""
        if request.path in self._pages:
            return None
        desk = _below(self._desks, request.path)
        return desk or (_below(self._talks, request.path) if request.method == "GET" else None)

    def _page(self, request: Request) -> Page:
        if request.method not in ("GET", "HEAD"):
            told = "only GET and HEAD are answered here"
            return text(HTTPStatus.METHOD_NOT_ALLOWED, told, Allow="GET, HEAD")
        page = self._pages.get(request.path)
        return page() if page else text(HTTPStatus.NOT_FOUND, f"here are {', '.join(self._pages)}")


def _below(talks: Mapping[str, Conversation], path: str) -> Conversation | None:
    """The conversation of a path."""
    if path in talks:
        return talks[path]
    below = (talk for begin, talk in talks.items() if begin.endswith("/") and path.startswith(begin))
    return next(below, None)


def read_head(head: bytes) -> Request | None:
    """The request of a head with its empty line; None if it is none, or says twice what may be said once."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    asked, fields = _REQUEST.fullmatch(line), [_FIELD.fullmatch(one) for one in lines]
    named: dict[str, str] = {}
    for one in fields:
        name = one["name"].decode().lower() if one else ""
        if one is None or (name in named and name in _ONCE):
            return None
        named[name] = one["value"].decode("latin-1")
    if asked is None:
        return None
    path, _, query = asked["target"].decode().partition("?")
    return Request(asked["method"].decode(), path, query, named, head)


def text(status: HTTPStatus, told: str, **headers: str) -> Page:
    """A line of text."""
    return Page(f"{told}\n".encode(), "text/plain; charset=utf-8", status, headers)
