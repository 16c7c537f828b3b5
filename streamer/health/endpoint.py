"""A small HTTP server for a few pages that are made on request, in one thread.

For machines on the same host: at most 16 connections at a time, one request each, 5 seconds to ask and be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from streamer.labels.addresses import is_public, listen

MOST_CONNECTIONS = 16
PATIENCE_S = 5.0
HEAD_BYTES = 8192

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


class Endpoint:
    """Serves `pages`, by path, at `address` (HOST:PORT) until it is closed; the functions run in its own thread.

    address  where it listens, with the port that was found when 0 was asked for

    Raises ConfigError for an address that is malformed, in use, or not this machine's; `key` is the configuration's
    key of the address, for messages. Logs a warning for an address that other machines can reach.
    """

    def __init__(self, address: str, pages: Mapping[str, Callable[[], Page]], key: str) -> None:
        self._pages = pages
        self._connections = 0
        self._socket = listen(address, key, "127.0.0.1:9464")
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if is_public(host):
            log.warning("anyone who can reach this machine can read http://%s; bind 127.0.0.1 instead", self.address)
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()], name=key)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the address; waits for the thread."""
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._socket, limit=HEAD_BYTES)
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
        self._connections += 1
        try:
            if self._connections <= MOST_CONNECTIONS:
                await asyncio.wait_for(self._answer(reader, writer), PATIENCE_S)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a connection was given up: %s", error)
        except asyncio.CancelledError:  # by `_serve`; asyncio of Python 3.11 logs an error if a handler stays cancelled
            log.debug("a connection was closed with the endpoint")
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        page = self._page(head.partition(b"\r\n")[0].decode("ascii", "replace").split(" "))
        lines = [
            f"HTTP/1.1 {page.status} {page.status.phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + page.body)
        writer.write_eof()
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            while await reader.read(HEAD_BYTES):  # until the client closes: an abort before that takes the answer back
                pass

    def _page(self, request: list[str]) -> Page:
        """The answer to a request line, split at its spaces."""
        if len(request) != 3 or not request[2].startswith("HTTP/1."):
            return _text(HTTPStatus.BAD_REQUEST, "this is not a request in HTTP/1")
        method, target, _ = request
        if method != "GET":
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here")
        page = self._pages.get(target.partition("?")[0])
        return page() if page else _text(HTTPStatus.NOT_FOUND, f"here are {', '.join(self._pages)}")


def _text(status: HTTPStatus, text: str) -> Page:
    return Page(f"{text}\n".encode(), "text/plain; charset=utf-8", status)
