"""ZMTP 3.0 by hand, for peers that do what no library would do (rfc.zeromq.org, 23/ZMTP)."""

from __future__ import annotations

import socket
import struct

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0")
_MORE, _LONG, _COMMAND = 1, 2, 4
_PATIENCE_S = 30.0


def connect(address: str) -> socket.socket:
    """A bare connection to a tcp:// or ipc:// address."""
    if address.startswith("ipc://"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(_PATIENCE_S)
        peer.connect(address.removeprefix("ipc://"))
        return peer
    host, port = address.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), _PATIENCE_S)


def frame(body: bytes, more: bool = False) -> bytes:
    """A frame of a message."""
    return _head(len(body), _MORE * more) + body


def _head(length: int, flags: int) -> bytes:
    return bytes([flags, length]) if length < 256 else bytes([flags | _LONG]) + struct.pack(">Q", length)


def join(address: str, kind: bytes) -> socket.socket:
    """A connection with a socket of this kind, such as b"SUB", behind it: its handshake is done."""
    peer = connect(address)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    said = b""
    try:
        peer.sendall(GREETING + _head(len(ready), _COMMAND) + ready)
        while b"READY" not in said:
            got = peer.recv(4096)
            if not got:
                raise ConnectionError(f"{address} closed the connection at the handshake")
            said += got
    except BaseException:
        peer.close()
        raise
    return peer
