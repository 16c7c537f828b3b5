"""A conversation with an HTTP camera: GET, and nothing that it asks for beyond that."""

from __future__ import annotations

import socket
import threading
import time
from http.client import HTTPException, HTTPResponse

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.address import with_credentials
from streamer.sources.login import Login
from streamer.sources.peer import Address, Wire, connect, unreachable

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
_LONGEST = 200  # characters of a camera's word that is said back to it


class Answer:
    """The body of an answer, and what its header says of it."""

    def __init__(self, response: HTTPResponse, wire: Wire) -> None:
        self.wire, self.status, self.headers = wire, response.status, response.headers
        self.type = response.headers.get_content_type() if "Content-Type" in response.headers else ""
        if self.type.startswith("multipart/"):
            response.length = None  # it goes on, whatever it says
        self.length = response.length
        self._response = response
        self.head = b""

    def peek(self) -> bytes:
        """The first bytes, which `read` gives again."""
        self.head = self.head or self._response.read1(_CHUNK)
        return self.head

    def read(self, most: int = _CHUNK) -> bytes:
        """What has come, or comes next; empty at the end."""
        piece, self.head = self.head[:most], self.head[most:]
        return piece or self._response.read1(most)


class Conversation:
    """Asks one camera for its stream, or for pictures. Follows redirects on its host; takes no cookies.

    The connection is kept from one picture to the next.
    """

    def __init__(self, config: SourceConfig, uri: str, stop: threading.Event) -> None:
        self._open_s, self._read_s, self._uri, self._stop = config.open_s, config.read_s, uri, stop
        address = with_credentials(config)
        self._address, self._login = Address.of(address), Login(address)
        self._connection: socket.socket | None = None
        self._peer: str | None = None
        self._response: HTTPResponse | None = None

    def close(self) -> None:
        """Let the connection go."""
        if self._response:
            self._response.close()
        if self._connection:
            self._connection.close()
            self._connection = None

    def get(self, last: Answer | None = None) -> Answer:
        """An answer that is no redirect. `last`: the picture before, which need not be sent again."""
        wanted = ""
        for asked, told in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
            value = last.headers.get(told, "") if last else ""
            if value.isascii() and value.isprintable() and 0 < len(value) <= _LONGEST:
                wanted += f"{asked}: {value}\r\n"
        try:
            return self._follow(wanted, time.monotonic() + self._open_s)
        except (OSError, HTTPException, ValueError) as error:
            raise unreachable(error, self._uri, self._open_s) from error

    def _follow(self, wanted: str, deadline: float) -> Answer:
        challenged = False
        for _ in range(_MOST_REDIRECTS):
            answer = self._ask(wanted, deadline)
            if answer.status == 401 and not challenged:
                challenged = self._login.challenged(answer.headers.get_all("WWW-Authenticate", []))
                if challenged:
                    continue
            if answer.status not in _REDIRECTS:
                return answer
            assert self._peer
            self._address = self._address.redirected(answer.headers.get("Location", ""), self._peer, self._uri)
            self.close()
        raise SourceError(f"{self._uri}: too many redirects; check the path in the address", "slow")

    def _ask(self, wanted: str, deadline: float) -> Answer:
        """One request; over the connection that there is, if the answer before has been read to its end."""
        before = self._response
        if before and (before.will_close or not (before.isclosed() or before.length == 0)):
            self.close()
        if self._connection:
            try:
                return self._exchange(self._connection, wanted, deadline)
            except (ConnectionError, HTTPException):  # it has been closed meanwhile
                self.close()
        self._connection, self._peer = connect(self._address, self._open_s, self._peer)
        return self._exchange(self._connection, wanted, deadline)

    def _exchange(self, connection: socket.socket, wanted: str, deadline: float) -> Answer:
        path, login = self._address.path, self._login.header("GET", self._address.path)
        head = f"Host: {self._address.netloc}\r\nUser-Agent: action-streamer\r\nAccept: */*\r\n{wanted}{login}"
        connection.settimeout(self._open_s)
        connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        wire = Wire(connection, self._open_s, deadline, self._stop)
        self._response = HTTPResponse(wire, method="GET")  # type: ignore[arg-type]
        self._response.begin()
        wire.begin(self._read_s)
        return Answer(self._response, wire)
