"""Serves the page: its files, the WebSocket at /labels, and /api/ for programs, from a thread of its own.

The files are read once and answered by their exact paths: no request ever names a file. They hold no secrets; labels
and pictures go over the WebSocket, and labels over /api/, to those whom `auth.py` lets in.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from importlib import resources
from pathlib import PurePath

from streamer.labels.messages import Message
from streamer.types import Image
from streamer.view.api import Api
from streamer.view.asking import Run
from streamer.view.auth import Place, is_ours
from streamer.view.clips import open_clip, send_clip
from streamer.view.feed import Feed
from streamer.view.openapi import description, page
from streamer.view.pictures import Pictures
from streamer.view.viewer import Viewer
from streamer.view.websocket import WebSocket
from streamer.web import Listener, Page, Request, Visitor, text

MOST_CONNECTIONS = 64
MOST_VIEWERS = 16

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class PageServer:
    """The page, served until `close`; call it with every message.

    newest   gives a stream's last frame; without it there are labels and no pictures
    order    the streams in the order in which the page shows them; others come after them
    run      the run whose labels these are, if it can be asked
    url      where to open the page
    viewers  those who may look, and do
    """

    def __init__(
        self,
        place: Place,
        newest: Callable[[str], Image | None] | None = None,
        order: Sequence[str] = (),
        run: Run | None = None,
    ) -> None:
        self.url = place.url
        self._guard = place.guard
        self._feed = Feed(order)
        self._run = run
        self._pictures = Pictures(newest) if newest else None
        self.viewers: set[Viewer] = set()
        self._listener = Listener(
            place.socket,
            {**page_files(), "/api/": page, "/api/openapi.json": description},
            "view",
            knows=lambda request: place.guard.knows_host(request.host),
            talks={"/labels": self._labels, "/clips/": self._clip},
            desks={"/api/": Api(place.guard, self._feed, run)},
            most=MOST_CONNECTIONS,
        )

    def __call__(self, message: Message) -> None:
        """Take a message that was published. Never waits."""
        self._feed(message)

    def close(self) -> None:
        """Send all viewers away and free the address."""
        self._listener.close()
        if self._run:
            self._run.close()
        if self._pictures:
            self._pictures.close()

    async def _labels(self, visitor: Visitor, request: Request) -> None:
        """One browser's WebSocket."""
        if not self._guard.knows_page(request.host, request.origin):
            await visitor.answer(text(HTTPStatus.FORBIDDEN, "labels are for the page that is served here"))
            return
        socket = WebSocket(visitor)
        if not await socket.open(request.head):
            return
        may_change = self._guard.token is not None or is_ours(*visitor.ends)
        viewer = Viewer(socket, self._guard, self._feed, self._pictures, self._run, may_change=may_change)
        try:
            await viewer.run(partial(self._admit, viewer, visitor))
        except asyncio.CancelledError:
            socket.leave()
            raise
        finally:
            self.viewers.discard(viewer)
            if self._pictures and not self.viewers:
                self._pictures.forget()

    async def _clip(self, visitor: Visitor, request: Request) -> None:
        """A clip, for the player of a browser that has shown its token: /clips/SECRET/NAME.mp4."""
        secret, _, name = request.path.removeprefix("/clips/").partition("/")
        known = any(hmac.compare_digest(secret.encode(), viewer.secret.encode()) for viewer in self.viewers)
        folder = self._run.clips if self._run else None
        clip = await asyncio.to_thread(open_clip, folder, name) if folder and known else None
        if clip is None:
            await visitor.answer(text(HTTPStatus.NOT_FOUND, "there is no such clip, or it has been deleted"))
            return
        with clip:
            await send_clip(visitor, request, clip)

    def _admit(self, viewer: Viewer, visitor: Visitor) -> bool:
        """Whether there is a seat for a viewer who may look."""
        if len(self.viewers) >= MOST_VIEWERS:
            return False
        self.viewers.add(viewer)
        visitor.welcome()
        return True

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def page_files() -> dict[str, Callable[[], Page]]:
    """The page's files by path: all that are in its folder."""
    pages: dict[str, Callable[[], Page]] = {}
    for file in sorted(resources.files("streamer.view").joinpath("page").iterdir(), key=lambda file: file.name):
        path = "/" if file.name == "index.html" else f"/{file.name}"
        page = Page(file.read_bytes(), _KINDS[PurePath(file.name).suffix], headers=_HEADERS)
        pages[path] = partial(_same, page)
    return pages


def _same(page: Page) -> Page:
    return page
