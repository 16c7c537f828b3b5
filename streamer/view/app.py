"""The web application: four files, and the WebSocket at /labels.

The files are read once and answered by their exact paths: no request ever names a file. They hold no secrets; labels
and pictures go over the WebSocket alone, to those whom `auth.py` lets in.
"""

from __future__ import annotations

from importlib import resources

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.view.auth import Guard
from streamer.view.feed import Feed
from streamer.view.pictures import Pictures
from streamer.view.viewer import Viewer

MOST_VIEWERS = 16
FULL = 4429  # code of closing

_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/view.js": ("view.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_app(guard: Guard, feed: Feed, pictures: Pictures | None) -> Starlette:
    """The application for those whom `guard` lets in; without `pictures` the page shows labels alone."""
    folder = resources.files("streamer.view") / "page"
    files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
    viewers: set[Viewer] = set()

    async def file(request: Request) -> Response:
        found = files.get(request.url.path)
        if found is None:
            return Response("There is no such page.", 404, _HEADERS, "text/plain")
        return Response(found[0], 200, _HEADERS, found[1])

    async def labels(socket: WebSocket) -> None:
        if not guard.knows_page(socket.headers.get("host"), socket.headers.get("origin")):
            await socket.close()  # before it is accepted: HTTP 403
            return
        await socket.accept()
        if len(viewers) >= MOST_VIEWERS:
            await socket.close(FULL, "too many viewers")
            return
        viewer = Viewer(socket, guard, feed, pictures)
        viewers.add(viewer)
        try:
            await viewer.run()
        finally:
            viewers.discard(viewer)
            if pictures and not viewers:
                pictures.forget()

    return Starlette(routes=[WebSocketRoute("/labels", labels), Route("/{path:path}", file)])
