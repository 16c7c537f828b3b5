"""The far side of a connection, which is not trusted: it gets a limited time and no second host to send us to."""

from __future__ import annotations

import io
import ipaddress
import math
import selectors
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from streamer.errors import SourceError

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_SECURE = {"http": "https", "rtsp": "rtsps"}
_SELECTOR = getattr(selectors, "PollSelector", selectors.SelectSelector)  # Windows has no poll
_LOOK_S = 0.1  # how often a wait looks whether it should stop


@dataclass(frozen=True, slots=True)
class Address:
    """Where a camera is: the parts of its address, and of those only what may be said to it.

    path  as it stands in a request: printable ASCII without spaces
    """

    scheme: str
    host: str
    port: int
    path: str

    @staticmethod
    def of(uri: str) -> Address:
        """The parts of an address; ValueError where it is malformed."""
        parts = urlsplit(uri)
        if not parts.hostname or parts.port == 0:
            raise ValueError("no host, or port 0")
        scheme = parts.scheme.lower()
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), "%/:=&?~+!$,;'@()*[]")
        return Address(scheme, parts.hostname, parts.port or _PORTS[scheme], path)

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address without a user and a password."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    def with_user_of(self, uri: str) -> str:
        """The address with the user and the password that stand in `uri`."""
        user, at, _ = urlsplit(uri).netloc.rpartition("@")
        return f"{self.scheme}://{user}{at}{self.netloc}{self.path}"

    def redirected(self, location: str, peer: str, uri: str) -> Address:
        """Where the camera at `uri` sends us, if it may: to its own host, whose IP address is `peer`; or SourceError.

        On this machine the port must be the same, too: other ports here are other programs, such as our own control.
        """
        try:
            to = Address.of(urljoin(self.url, location))
        except (ValueError, KeyError):
            advice = "check the path in the address"
            raise SourceError(f"{uri}: sends us to an address that is malformed; {advice}", "slow") from None
        same_host = to.host in {self.host, peer} and to.scheme in {self.scheme, _SECURE.get(self.scheme)}
        if not same_host or (ipaddress.ip_address(peer).is_loopback and to.port != self.port):
            advice = "redirects are followed on the same host only; if it is meant, give that address"
            raise SourceError(f"{uri}: sends us to {to.scheme}://{to.netloc[:100]}; {advice}", "slow")
        return to


def unreachable(error: Exception, shown: str, open_s: float) -> SourceError:
    """Why the camera at the address `shown` gave no answer in `open_s`, or one that is none."""
    if isinstance(error, TimeoutError):
        text = f"no answer within {open_s:g} s; is the camera on, and are host and port right?"
    elif isinstance(error, ConnectionRefusedError):
        text = "connection refused; is the camera on, and is the port right?"
    elif isinstance(error, OSError) and not isinstance(error, ConnectionError):
        text = "cannot be reached or read; check the host name, the path and the network"
    else:
        text = "answers, but not with video; check the path and the port"
    return SourceError(f"{shown}: {text}", "soon")


class Wire(io.RawIOBase):
    """What comes over a connection; waiting for it ends after `read_s`, at `deadline`, and at `stop` as at an end.

    deadline  by the monotonic clock
    empty_s   when there was last nothing left to read: what has been read since came later. By the monotonic clock
    """

    def __init__(self, connection: socket.socket, read_s: float, deadline: float, stop: threading.Event) -> None:
        self.deadline = deadline
        self.empty_s = time.monotonic()
        self._connection, self._read_s, self._stop = connection, read_s, stop
        self._selector = _SELECTOR()
        self._selector.register(connection, selectors.EVENT_READ)
        connection.setblocking(False)

    def begin(self, read_s: float) -> None:
        """From now on what counts is this, and no deadline."""
        self._read_s, self.deadline = read_s, math.inf

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As in `io.RawIOBase`; TimeoutError when it takes too long."""
        limit = min(time.monotonic() + self._read_s, self.deadline)
        while not self._stop.is_set():
            if time.monotonic() > self.deadline:
                break
            try:
                return self._connection.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                if time.monotonic() > limit:
                    break
            began = time.monotonic()
            self._selector.select(_LOOK_S)
            self.empty_s = min(time.monotonic(), began + _LOOK_S)  # later only if this process was stopped meanwhile
        if self._stop.is_set():
            return 0
        raise TimeoutError

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Itself, as `http.client.HTTPResponse` wants it."""
        return io.BufferedReader(self)


def connect(address: Address, limit_s: float, peer: str | None = None) -> tuple[socket.socket, str]:
    """A connection and the IP address of its far side; `peer`: the one that it must have. OSError.

    Certificates are not checked: cameras sign their own.
    """
    connection = socket.create_connection((peer or address.host, address.port), limit_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found: str = connection.getpeername()[0]
        if address.scheme in _SECURE.values():
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname=address.host)
    except BaseException:
        connection.close()
        raise
    return connection, found
