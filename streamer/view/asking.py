"""What a page may ask of the run: to look at things, and, who may, to change them. The run's control code does both.

The page's process asks over a socket in a folder that only this user can open; `PageProcess` is at its other end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from streamer.errors import StreamerError
from streamer.labels.commands import MOST_TOLD
from streamer.labels.requests import ANSWER_S, LOAD_S
from streamer.text import redact

LOOKING = frozenset({"status", "clips"})
CHANGING = frozenset({"set", "answer", "model"})
_ELSEWHERE = frozenset({"rtsp", "rtsps", "http", "https", "pattern"})
_NAME = re.compile(r"[\w-][\w.-]*")
NO_RUN = "this page shows the labels of a run elsewhere, of which nothing can be asked; open the page of that run"
NO_CONTROL = "this run takes no commands (`control` is null)"
NOT_YOURS = (
    "this browser is not one of the user who started the run, so it may only look; "
    "start the run with view.token and open the page with it"
)


class Run:
    """The run beside this page. For one event loop.

    address  of the socket at which it answers
    changes  whether it takes commands that change something
    clips    the folder of its clips; None if it keeps none
    """

    def __init__(self, address: str, *, changes: bool, clips: Path | None) -> None:
        self._address, self.changes, self.clips = address, changes, clips
        self._context: zmq.asyncio.Context | None = None

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to a request: `ok` with what is answered, or `error` with a sentence.

        Raises StreamerError if there is none in time.
        """
        self._context = self._context or zmq.asyncio.Context()
        patience_s = LOAD_S if request.get("command") == "model" else ANSWER_S
        with self._context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(self._address)
            await socket.send(msgspec.json.encode(request))
            if not await socket.poll(round(patience_s * 1000)):
                raise StreamerError(f"the run did not answer within {patience_s:g} s")
            return msgspec.json.decode(await socket.recv(), type=dict[str, Any])

    def close(self) -> None:
        """Free the sockets, after the event loop has ended."""
        if self._context:
            self._context.destroy(linger=0)


def why_not(run: Run | None, *, may_change: bool) -> str | None:
    """Why somebody can change nothing, in a sentence; None if he can."""
    if run is None:
        return NO_RUN
    if not run.changes:
        return NO_CONTROL
    return None if may_change else NOT_YOURS


def refusal(request: Mapping[str, Any], run: Run | None, *, may_change: bool) -> str | None:
    """Why a browser's request is not passed on to the run, in a sentence; None if it is."""
    command = request.get("command")
    if command not in LOOKING | CHANGING:
        return f"a page cannot ask for {str(command)[:64]!r}; it can for {', '.join(sorted(LOOKING | CHANGING))}"
    if run is None:
        return NO_RUN
    if command in CHANGING and (why := why_not(run, may_change=may_change)):
        return why
    if command == "model" and not _NAME.fullmatch(str(request.get("model"))):
        return "a page takes the name of a model only; `streamer ctl model` takes files, too"
    return None


def told(error: Exception) -> str:
    """What a browser is told of an error."""
    return redact(str(error))[:MOST_TOLD]


def reaches_in(source: int | str | Mapping[str, Any]) -> bool:
    """Whether a source is, or names, something of this machine: a file, a device, a pipe."""
    fields = source if isinstance(source, Mapping) else {"uri": source}
    scheme, separator, _ = str(fields.get("uri")).partition("://")
    return not separator or scheme.lower() not in _ELSEWHERE or "password_file" in fields
