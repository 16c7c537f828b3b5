"""Who may look: where the page is served, and what a browser must bring.

On this machine alone (a loopback address) nothing is asked for but that the page was opened under a name of this
machine: otherwise a site in the same browser could have its own name resolve to 127.0.0.1, and look. At any other
address a token is needed. Both ways the page that connects must be the one served here (`Origin`).
"""

from __future__ import annotations

import hmac
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from engines.errors import install
from streamer.errors import ConfigError
from streamer.labels.addresses import is_public, listen

LEAST_TOKEN = 8  # characters
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """What a browser must bring. `token`: None on a loopback address without one."""

    token: str | None

    def knows_page(self, host: str | None, origin: str | None) -> bool:
        """Whether the headers `Host` and `Origin` of a WebSocket say that a page of ours opened it."""
        if not host or not origin or urlsplit(origin).netloc.lower() != host.lower():
            return False
        return self.token is not None or urlsplit(f"//{host}").hostname in _LOCAL_NAMES

    def accepts(self, token: str | None) -> bool:
        """Compares in constant time."""
        return self.token is None or hmac.compare_digest((token or "").encode(), self.token.encode())


@dataclass(frozen=True)
class Place:
    """Where a page will be served: a listening socket, and who may look.

    url        where to open the page, without the token
    new_token  a token that was made for this place, 128 bits, to be told once; None if one was given or none is needed
    """

    socket: socket.socket
    guard: Guard
    url: str
    new_token: str | None


def claim(address: str, token: str | None = None) -> Place:
    """Take HOST:PORT for a page; port 0 is any free one. Without `token` a public address gets a new one.

    Raises ConfigError for an address that cannot be had, a token that is too short, libraries that are missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}: {install('view')}") from error
    if token is not None and len(token) < LEAST_TOKEN:
        raise ConfigError(f"the view's token is too short; give at least {LEAST_TOKEN} characters")
    sock = listen(address, "view", "127.0.0.1:8080")
    new_token = secrets.token_urlsafe(16) if not token and is_public(sock.getsockname()[0]) else None
    host = address.rpartition(":")[0]
    shown = socket.gethostname() if host in ("0.0.0.0", "[::]") else host
    return Place(sock, Guard(token or new_token), f"http://{shown}:{sock.getsockname()[1]}/", new_token)
