"""Serves the page, and the WebSocket behind it, from a thread of its own: uvicorn runs its event loop there.

A page that fails is logged and never stops the recognition.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from streamer.errors import ConfigError
from streamer.messages import Message
from streamer.types import Image
from streamer.view.auth import LEAST_TOKEN, Guard, is_loopback, listen, new_token
from streamer.view.feed import Feed

_MOST_CONNECTIONS = 64
_MOST_REQUEST_BYTES = 16 * 1024  # of a message on the WebSocket; a longer one ends it
_CLOSE_S = 3.0


class PageServer:
    """The page at an address. Binds at once, serves from `start` to `close`; call it with every message.

    address  HOST:PORT; port 0 is any free one
    token    what viewers must bring. Without one, a public address gets a new one: `new_token`, to be told once

    url      where to open the page, without the token
    Raises ConfigError for an address that cannot be had, a token that is too short, libraries that are missing.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        try:
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
            import websockets  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"the page needs {error.name}: pip install 'action-streamer[view]'") from error
        if token is not None and len(token) < LEAST_TOKEN:
            raise ConfigError(f"the view's token is too short; give at least {LEAST_TOKEN} characters")
        self._socket = listen(address)
        self.new_token = None if token or is_loopback(self._socket) else new_token()
        self._guard = Guard(token or self.new_token)
        self._feed = Feed()
        self.url = f"http://{self._host(address)}:{self._socket.getsockname()[1]}/"
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] = lambda: None

    def _host(self, address: str) -> str:
        """The host to open: the one that was given, or this machine's name where that means all addresses."""
        host = address.rpartition(":")[0]
        return socket.gethostname() if host in ("0.0.0.0", "[::]") else host

    def __call__(self, message: Message) -> None:
        """Take a message that was published. Never waits."""
        self._feed(message)

    def start(self, newest: Callable[[str], Image | None] | None = None) -> None:
        """Serve. `newest` gives a stream's last frame; without it there are labels and no pictures."""
        import uvicorn

        from streamer.view.app import page_app
        from streamer.view.pictures import Pictures, give_way

        pictures = Pictures(newest) if newest else None
        config = uvicorn.Config(
            page_app(self._guard, self._feed, pictures),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=_MOST_CONNECTIONS,
            ws_max_size=_MOST_REQUEST_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)

        def serve() -> None:
            give_way()
            try:
                server.run(sockets=[self._socket])
            finally:
                if pictures:
                    pictures.close()

        def stop() -> None:
            server.should_exit = True

        self._stop = stop
        self._thread = threading.Thread(target=serve, name="view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send all viewers away and free the address."""
        self._stop()
        if self._thread:
            self._thread.join(_CLOSE_S)
        self._socket.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
