"""Who may look: where the page is served, and what a browser must bring.

On this machine alone (a loopback address) nothing is asked for but that the page was opened under a name of this
machine: otherwise a site in the same browser could have its own name resolve to 127.0.0.1, and look. At any other
address a token is needed. Both ways the page that connects must be the one served here (`Origin`).

Who may change something: who brings the token; without one, only programs of the user who runs this.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from engines.errors import install
from streamer.errors import ConfigError
from streamer.labels.addresses import is_public, listen, names_this_machine

LEAST_TOKEN = 8  # characters


@dataclass(frozen=True)
class Guard:
    """What a browser must bring. `token`: None on a loopback address without one."""

    token: str | None

    def knows_host(self, host: str | None) -> bool:
        """Whether the header `Host` is one under which the page may be opened."""
        return self.token is not None or (host is not None and names_this_machine(host))

    def knows_page(self, host: str | None, origin: str | None) -> bool:
        """Whether the headers `Host` and `Origin` of a WebSocket say that a page of ours opened it."""
        if not host or not origin or not self.knows_host(host):
            return False
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")

    def accepts(self, token: str | None) -> bool:
        """Compares in constant time."""
        return self.token is None or hmac.compare_digest((token or "").encode(), self.token.encode())


def is_ours(peer: tuple[str, int], here: tuple[str, int], tables: Path = Path("/proc/net")) -> bool:
    """Whether the other end of a connection within this machine is a program of this process's user.

    peer, here  address and port of the other end and of this one. The kernel tells it (Linux); False if it does not.
    """
    wanted = [_in_table(*peer), _in_table(*here)]
    table = tables / ("tcp6" if ":" in peer[0] else "tcp")
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[1:3] == wanted and int(row[7]) == os.getuid() for row in rows)


def _in_table(host: str, port: int) -> str:
    """An address as it stands in /proc/net/tcp: words of 4 bytes in the order of this machine, in hexadecimal."""
    raw = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    words = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


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
