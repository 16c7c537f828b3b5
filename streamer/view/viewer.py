"""One browser at the WebSocket: what it asks for, and what it is sent.

From the browser, JSON objects of at most 16 KiB, each with one field:

    {"token": "..."}           first of all, within 3 s; null where there is no token
    {"look": {"cam1": 640}}    the streams whose pictures it shows, with their widths there in pixels
    {"seen": "cam1"}           it has drawn that stream's last picture, and may be sent the next
    {"past": "cam1"}           it wants the events of that stream in the last hour
    {"ask": {...}, "id": 1}    a request to the run, as asking.py lets it pass
    {"try": {"events.enter": 0.7}, "stream": "cam1", "id": 2}    what events the last minute would have had then

To the browser:

    text    a JSON array of the label stream's payloads as they were published. The first array, and one after messages
            were lost, begins with {"kind": "view", ...}: start over. [{"kind": "past", ...}] and [{"kind": "answer",
            "id": 1, "ok": ... or "error": "..."}] are what was asked for
    binary  a picture: one byte, the length of the stream's name; the name; a JPEG

A picture is sent only when the one before it has been drawn. So a slow browser gets fewer, always the newest; and when
it takes long, smaller ones.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import zmq

from engines.loading import find_models
from streamer.errors import StreamerError
from streamer.labels.messages import encode
from streamer.types import Image
from streamer.view.asking import NO_RUN, Run, refusal, told, why_not
from streamer.view.auth import Guard
from streamer.view.colours import COLOURS
from streamer.view.feed import Feed
from streamer.view.pictures import LEVELS, Pictures
from streamer.view.trial import trial
from streamer.view.websocket import GoneError, WebSocket

TICK_S = 0.04
HELLO_S = 3.0  # how long a browser may take to say who it is
REFUSAL_S = 1.0  # a wrong token is answered late, so that guessing is slow
SLOW_S, QUICK_S = 0.3, 0.12  # from sending a picture to hearing that it was drawn
QUICK_PICTURES = 40  # drawn quickly, one after the other, before larger ones are tried
MOST_ASKED = 4  # requests of a browser that wait for their answer
BAD_REQUEST, REFUSED, TOO_LATE, FULL = 4400, 4401, 4408, 4429  # codes of closing


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a browser may say."""

    token: str | None = None
    look: dict[str, int] | None = None
    seen: str | None = None
    past: str | None = None
    ask: dict[str, Any] | None = None
    attempt: dict[str, Any] | None = msgspec.field(name="try", default=None)
    stream: str = ""
    id: int = 0


_decoder = msgspec.json.Decoder(Request)


class Pace:
    """How large a browser's pictures may be: smaller when they are drawn late, larger after many in time."""

    def __init__(self) -> None:
        self.level = len(LEVELS) - 1
        self._changed_s = 0.0
        self._quick = 0

    def drawn(self, sent_s: float, now_s: float) -> None:
        """A picture sent at `sent_s` has been drawn at `now_s`; one from before the last change tells nothing."""
        if sent_s < self._changed_s:
            return
        took_s = now_s - sent_s
        self._quick = self._quick + 1 if took_s < QUICK_S else 0
        step = -1 if took_s > SLOW_S else int(self._quick == QUICK_PICTURES)
        if step:
            self.level = min(max(self.level + step, 0), len(LEVELS) - 1)
            self._changed_s, self._quick = now_s, 0


class Viewer:
    """One browser, from its first message to its end.

    run         what it may ask; None: nothing
    may_change  whether the browser may change something there, if it brings the token where there is one
    secret      opens the run's clips, as long as this browser is there
    """

    def __init__(
        self,
        socket: WebSocket,
        guard: Guard,
        feed: Feed,
        pictures: Pictures | None,
        run: Run | None = None,
        *,
        may_change: bool = False,
    ) -> None:
        self._socket, self._guard, self._feed, self._pictures = socket, guard, feed, pictures
        self._run, self._may_change = run, may_change
        self.secret = secrets.token_urlsafe(16)
        self._asking: set[asyncio.Task[None]] = set()
        self._pace = Pace()
        self._look: dict[str, int] = {}  # stream -> width, pixels
        self._sent: dict[str, float] = {}  # stream -> when its picture was sent that has not been drawn yet
        self._shown: dict[str, Image] = {}  # stream -> the frame of its last picture

    async def run(self, admit: Callable[[], bool]) -> None:
        """Serve an open WebSocket until it ends; `admit` says whether there is a seat for one who may look."""
        try:
            hello = await asyncio.wait_for(self._receive(), HELLO_S)
            if not self._guard.accepts(hello.token):
                await asyncio.sleep(REFUSAL_S)
                await self._socket.close(REFUSED, "wrong token")
            elif admit():
                await self._converse()
            else:
                await self._socket.close(FULL, "too many viewers")
        except asyncio.TimeoutError:
            await self._socket.close(TOO_LATE, "nothing was asked for")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            await self._socket.close(BAD_REQUEST, "this is not a request")
        except GoneError:
            await self._socket.close(BAD_REQUEST, "")

    async def _converse(self) -> None:
        """Send and listen at the same time, until one of both ends with its error."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, *self._asking):
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _receive(self) -> Request:
        """The next request; an error of msgspec for anything else."""
        return _decoder.decode(await self._socket.receive())

    async def _listen(self) -> None:
        """Take requests until the browser leaves."""
        while True:
            request = await self._receive()
            if request.look is not None:
                self._look = request.look
                self._shown = {stream: image for stream, image in self._shown.items() if stream in self._look}
            if request.seen is not None and (sent_s := self._sent.pop(request.seen, None)) is not None:
                self._pace.drawn(sent_s, time.monotonic())
            if request.past is not None:
                await self._send_past(request.past)
            if request.ask is not None or request.attempt is not None:
                if len(self._asking) >= MOST_ASKED:
                    await self._tell(request.id, {"error": f"{MOST_ASKED} requests wait for an answer already"})
                    continue
                self._asking.add(task := asyncio.create_task(self._ask(request)))
                task.add_done_callback(self._asking.discard)

    async def _ask(self, request: Request) -> None:
        """Pass a request on to the run, or make a trial, and tell what comes of it."""
        try:
            if request.attempt is not None:
                reply = await self._try(request.stream, request.attempt)
            else:
                asked = request.ask or {}
                why = refusal(asked, self._run, may_change=self._may_change)
                reply = await self._run.ask(asked) if self._run and why is None else {"error": why}
        except (StreamerError, ValueError, OverflowError, RecursionError, zmq.ZMQError) as error:
            reply = {"error": told(error)}
        with suppress(GoneError):
            await self._tell(request.id, reply)

    async def _try(self, stream: str, values: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = await self._run.ask({"command": "status"}) if self._run else {"error": NO_RUN}
        if "ok" not in reply:
            return reply
        labels, events = reply["ok"]["knows"], reply["ok"]["events"]
        return {"ok": await asyncio.to_thread(trial, self._feed.scores(stream), labels, events, values)}

    async def _tell(self, number: int, reply: dict[str, Any]) -> None:
        await self._socket.send(msgspec.json.encode([{"kind": "answer", "id": number, **reply}]).decode())

    async def _send(self) -> None:
        """Send what is new, again and again."""
        cursor: int | None = None
        while True:
            cursor, anew, messages = self._feed.since(cursor)
            payloads = [msgspec.json.encode(self._hello())] if anew else []
            payloads += [encode(message) for message in messages]
            if payloads:
                await self._socket.send(f"[{b','.join(payloads).decode()}]")
            if self._pictures:
                for stream, width in list(self._look.items()):
                    if stream not in self._sent and self._feed.knows(stream):
                        await self._send_picture(self._pictures, stream, width)
            await self._socket.keep_alive()
            await asyncio.sleep(TICK_S)

    async def _send_past(self, stream: str) -> None:
        messages = b",".join(map(encode, self._feed.past(stream)))
        name = msgspec.json.encode(stream).decode()
        await self._socket.send(f'[{{"kind":"past","stream":{name},"messages":[{messages.decode()}]}}]')

    async def _send_picture(self, pictures: Pictures, stream: str, width: int) -> None:
        level = min(self._pace.level, next((n for n, one in enumerate(LEVELS) if one.width >= width), len(LEVELS)))
        made = await pictures.after(self._shown.get(stream), stream, level)
        if made:
            self._shown[stream], picture = made
            self._sent[stream] = time.monotonic()
            name = stream.encode()
            await self._socket.send(bytes([len(name)]) + name + picture)

    def _hello(self) -> dict[str, Any]:
        return {
            "kind": "view",
            "pictures": self._pictures is not None,
            "colours": COLOURS,
            "order": self._feed.order(),
            "asks": self._run is not None,
            "why_not": why_not(self._run, may_change=self._may_change),
            "clips": f"/clips/{self.secret}/" if self._run and self._run.clips else None,
            "models": sorted(find_models()) if self._run else [],
        }
