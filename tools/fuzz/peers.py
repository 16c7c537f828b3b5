"""Servers that say what they are given, whatever it is: an HTTP answer, an RTSP session over TCP."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

from tools.fuzz.seeds import Seed

_PATIENCE_S = 5.0


class Peer:
    """Serves one medium at a time on 127.0.0.1, to every client that comes."""

    def __init__(self) -> None:
        self.seed: Seed | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, seed: Seed) -> str:
        """Serve this medium from now on; its address."""
        self.seed = seed
        return f"{seed.via}://127.0.0.1:{self._listening.getsockname()[1]}/cam"

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        assert self.seed
        client.settimeout(_PATIENCE_S)
        with suppress(OSError), client, client.makefile("rwb") as stream:
            serve = _answer_http if self.seed.via == "http" else _answer_rtsp
            while serve(stream, self.seed.parts):  # type: ignore[arg-type]
                pass


def _request(stream: socket.SocketIO) -> str:
    """The lines of the next request; empty at the end."""
    lines = []
    while (line := stream.readline()).strip():
        lines.append(line.decode(errors="replace"))
    return "".join(lines)


def _answer_http(stream: socket.SocketIO, parts: tuple[bytes, ...]) -> bool:
    _request(stream)
    stream.write(b"HTTP/1.0 200 OK\r\n" + parts[0] + b"\r\n" + parts[1])
    stream.flush()
    return False


def _answer_rtsp(stream: socket.SocketIO, parts: tuple[bytes, ...]) -> bool:
    request = _request(stream)
    method = request.partition(" ")[0]
    if not method or method == "TEARDOWN":
        return False
    count = re.search(r"CSeq: *(\d+)", request)
    head = f"RTSP/1.0 200 OK\r\nCSeq: {count[1] if count else 0}\r\nSession: 1\r\n"
    body = b""
    if method == "OPTIONS":
        head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
    elif method == "DESCRIBE":
        body = parts[0]
        head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
    elif method == "SETUP":
        head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
    stream.write(head.encode() + b"\r\n" + body)
    if method == "PLAY":
        stream.write(parts[1])
    stream.flush()
    return method != "PLAY"
