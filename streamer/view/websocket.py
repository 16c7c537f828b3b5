"""A WebSocket over a connection of the listener: the protocol is the library's (websockets, without its I/O)."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from streamer.web import HEAD_BYTES, Visitor

MOST_MESSAGE_BYTES = 16 * 1024  # a longer one ends the conversation
PING_S = 10.0  # a browser that said nothing for this long is asked; for twice as long, it is gone
LEAVE_S = 1.0  # how long it may take to say good-bye
GOING = 1012  # code of closing: the page ends

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class GoneError(Exception):
    """The browser has left, reads nothing any more, or broke the protocol."""


class WebSocket:
    """One conversation. One task may receive while others send."""

    def __init__(self, visitor: Visitor) -> None:
        self._reader, self._writer = visitor.reader, visitor.writer
        self._protocol = ServerProtocol(max_size=MOST_MESSAGE_BYTES)
        self._events: deque[Event] = deque()
        self._message = bytearray()
        self._sending = asyncio.Lock()
        self._heard_s = self._asked_s = time.monotonic()

    async def open(self, head: bytes) -> bool:
        """Answer the handshake; whether it was one, and there is a conversation now."""
        self._protocol.receive_data(head)
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._protocol.send_response(self._protocol.accept(event))
        await self._flush()
        return self._protocol.state is State.OPEN

    async def receive(self) -> bytes:
        """The next message, text or binary. Raises GoneError."""
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Frame) and event.opcode in _DATA:
                    self._message += event.data
                    if event.fin:
                        message = bytes(self._message)
                        self._message.clear()
                        return message
            if self._protocol.state is not State.OPEN:
                raise GoneError
            data = await self._reader.read(HEAD_BYTES)
            self._heard_s = time.monotonic()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._events += self._protocol.events_received()
            await self._flush()

    async def send(self, message: str | bytes) -> None:
        """Send a message, and wait while the browser is behind with reading. Raises GoneError."""
        self._check()
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def keep_alive(self) -> None:
        """To be called again and again: asks a browser that is silent whether it is there; GoneError if it is not."""
        self._check()
        now_s = time.monotonic()
        if now_s - self._heard_s > 2 * PING_S:
            raise GoneError
        if now_s - max(self._heard_s, self._asked_s) > PING_S:
            self._asked_s = now_s
            self._protocol.send_ping(b"")
            await self._flush()

    async def close(self, code: int, reason: str) -> None:
        """Say good-bye, and wait a moment for the browser to say it too."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
                await self._flush()
            await asyncio.wait_for(self._read_off(), LEAVE_S)
        except (GoneError, OSError, asyncio.TimeoutError):
            pass

    def leave(self) -> None:
        """Say good-bye without waiting: the page ends."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(GOING)
            self._write()

    async def _read_off(self) -> None:
        while data := await self._reader.read(HEAD_BYTES):
            self._protocol.receive_data(data)
            self._protocol.events_received()  # nobody hears them any more
            self._write()

    def _check(self) -> None:
        if self._protocol.state is not State.OPEN:
            raise GoneError

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                self._writer.write_eof()

    async def _flush(self) -> None:
        """Write what there is to write; raises GoneError if it is not read."""
        self._write()
        if self._writer.transport.get_write_buffer_size():
            async with self._sending:  # Python 3.10 lets one task wait
                try:
                    await asyncio.wait_for(self._writer.drain(), PING_S)
                except asyncio.TimeoutError:
                    raise GoneError from None
