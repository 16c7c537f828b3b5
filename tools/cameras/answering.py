"""A camera that answers each request as a test says: HTTP and RTSP have the same shape."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

HEAD = b"HTTP/1.1 200 OK\r\n"


class Answering:
    """Serves on 127.0.0.1; `answer` gives the pieces of the answer to a request, and then the connection ends.

    keep      the connection waits for another request instead
    requests  the heads of all that came
    accepted  how many connections there were
    """

    def __init__(self, answer: Callable[[str], Iterable[bytes]], *, keep: bool = False) -> None:
        self.requests: list[str] = []
        self.accepted = 0
        self._answer, self._keep, self._closed = answer, keep, threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, path: str = "/cam", scheme: str = "http", credentials: str = "") -> str:
        return f"{scheme}://{credentials}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        self._closed.set()

    def _serve(self) -> None:
        with self._server:
            while not self._closed.is_set():
                with suppress(TimeoutError):
                    connection, _ = self._server.accept()
                    self.accepted += 1
                    threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection, suppress(OSError):
            while head := self._head(connection):
                self.requests.append(head)
                for piece in self._answer(head):
                    if self._closed.is_set():
                        return
                    connection.sendall(piece)
                if not self._keep:
                    return

    @staticmethod
    def _head(connection: socket.socket) -> str:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := connection.recv(4096)):
                return ""
            head += piece
        return head.decode("latin-1")
