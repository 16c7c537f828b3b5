"""Serves the page, and the WebSocket behind it, from a thread of its own: uvicorn runs its event loop there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import uvicorn

from streamer.labels.messages import Message
from streamer.types import Image
from streamer.view.app import page_app
from streamer.view.auth import Place
from streamer.view.feed import Feed
from streamer.view.pictures import Pictures

_MOST_CONNECTIONS = 64
_MOST_REQUEST_BYTES = 16 * 1024  # of a message on the WebSocket; a longer one ends it
_CLOSE_S = 3.0


class PageServer:
    """The page, served until `close`; call it with every message.

    newest  gives a stream's last frame; without it there are labels and no pictures
    url     where to open the page
    """

    def __init__(self, place: Place, newest: Callable[[str], Image | None] | None = None) -> None:
        self.url = place.url
        self._socket = place.socket
        self._feed = Feed()
        self._pictures = Pictures(newest) if newest else None
        config = uvicorn.Config(
            page_app(place.guard, self._feed, self._pictures),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=_MOST_CONNECTIONS,
            ws_max_size=_MOST_REQUEST_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="view", daemon=True)
        self._thread.start()

    def __call__(self, message: Message) -> None:
        """Take a message that was published. Never waits."""
        self._feed(message)

    def close(self) -> None:
        """Send all viewers away and free the address."""
        self._server.should_exit = True
        self._thread.join(_CLOSE_S)
        self._socket.close()
        if self._pictures:
            self._pictures.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
