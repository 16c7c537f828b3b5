"""One run of the program under test on a camera that does what it is told, and all that the program says meanwhile."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from streamer import Message, ScoreMessage, StateMessage, StatusMessage, Subscriber
from tools.cameras import HttpCamera, RtspServer
from tools.errors import ToolError
from tools.faults.judge import Expected, Record, least_epoch, tells
from tools.faults.scene import FPS, RATE_HZ, Scene, write_script
from tools.peers.program import DIES_WITH_US

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-of-the-matrix"
OPEN_S, READ_S = 2.0, 1.0  # the time limits of the source, unless a row sets others
START_S = 60.0  # longest start of the program, and of a label
SETTLE_S = 0.5
_MAX_GAP_S = 0.6
_BUFFER = 256  # frames: no burst is too long; with no limit of age, a busy machine drops none
_HANGING = """
import pathlib, socket, threading
connect = socket.create_connection
def hang(*arguments, **options):
    if pathlib.Path({flag!r}).exists():
        threading.Event().wait()
    return connect(*arguments, **options)
socket.create_connection = hang
"""


class Camera(Protocol):
    """What the rows need of a camera, whichever it is."""

    port: int

    def url(self, *, credentials: str = "", path: str = "/cam") -> str:
        """Its address."""

    def command(self, word: str) -> None:
        """Do something, as tools/cameras/rtsp_server.py lists it."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True)
class Clips:
    """What the RTSP servers play: pictures of two sizes."""

    small: Path
    large: Path


class Stage:
    """What a row plays on, in this order: a camera, `begin`, `steady`, `fault`, `told`, `heal`; then `finish`.

    command  starts the program under test; None: this checkout's
    clips    None: there is no RTSP server here
    """

    def __init__(self, expected: Expected, folder: Path, command: str | None, clips: Clips | None) -> None:
        self.folder = folder
        self.scene = Scene(time.time())
        self.messages: list[Message] = []
        self._expected = expected
        self._command = command
        self._clips = clips
        self._stack = ExitStack()
        self._fault_us = self._healed_us = 0
        self._hangs = False

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def rtsp(self, *options: str, port: int = 0) -> RtspServer:
        """Start an RTSP server that shows the scene."""
        assert self._clips
        shows = ["--large", str(self._clips.large), "--fps", str(FPS), "--since", str(self.scene.since)]
        server = RtspServer(self._clips.small, *shows, *options, port=port)
        self._stack.callback(server.kill)
        return server

    def http(self, port: int = 0, password: str | None = None) -> HttpCamera:
        """Start an HTTP camera that shows the scene."""
        camera = HttpCamera({}, port, self.scene.since, password)
        threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._stack.callback(camera.kill)
        return camera

    def begin(self, uri: str, config: dict[str, Any] | None = None, **source: Any) -> None:
        """Start the program on this source, and listen to it."""
        model, labels = self.folder / "scene.scores.json", f"ipc://{self.folder}/labels"
        write_script(model)
        whole = {
            "sources": [{"uri": uri, "name": "camera", "open_s": OPEN_S, "read_s": READ_S, **source}],
            "model": str(model), "publish": {"address": labels}, "control": None,
            "max_gap": _MAX_GAP_S * RATE_HZ, "buffer": _BUFFER, "max_age_ms": None,
            **(config or {}),
        }  # fmt: skip
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(whole))  # JSON is YAML; passwords are no command line's business
        self._subscriber = self._stack.enter_context(Subscriber(labels, timeout_s=0.1, queue=100_000))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
        if self._command:
            words, place = shlex.split(self._command), self.folder
            environment.pop("PYTHONPATH", None)
        else:
            words, place = [sys.executable, "-m", "streamer"], ROOT
        if self._hangs:
            environment["PYTHONPATH"] = str(self.folder)
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self._program = subprocess.Popen(
                [*DIES_WITH_US, *words, "run", "--headless", "-c", str(path)],
                cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._stack.callback(self._kill)

    def hanging(self) -> Callable[[bool], None]:
        """Make the capture library of the program, which must not have begun yet, one that hangs at will."""
        flag = self.folder / "hang"
        (self.folder / "sitecustomize.py").write_text(_HANGING.format(flag=str(flag)))
        self._hangs = True
        return lambda hangs: flag.touch() if hangs else flag.unlink()

    def listen(self, condition: Callable[[Message], bool], limit_s: float, what: str = "") -> None:
        """Collect messages until one is as wanted. After `limit_s`, or when the program has ended: ToolError if
        `what` names what is missing.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                message = next(self._subscriber)
            except TimeoutError:
                if self._program.poll() is not None:
                    break
                continue
            self.messages.append(message)
            if condition(message):
                return
        if what:
            ended = self._program.poll()
            why = f"the program ended with {ended}: {self._said()}" if ended is not None else f"after {limit_s:g} s"
            raise ToolError(f"no {what} ({why})")

    def steady(self) -> None:
        """Wait until a label is in force, and has just begun: so none ends by itself while the fault begins."""
        self.listen(lambda m: isinstance(m, StateMessage) and m.label is not None, START_S, "label")
        self.listen(lambda m: isinstance(m, StateMessage) and m.label is None, START_S, "end of a label")
        self.listen(lambda m: isinstance(m, StateMessage) and m.label is not None, START_S, "second label")

    def fault(self, action: Callable[[], object] = lambda: None) -> None:
        """The fault begins now."""
        self._fault_us = self._healed_us = now_us()
        action()

    def told(self, lasts_s: float = 0.0) -> None:
        """Wait until the program has told the fault, and until the fault has lasted for so long.

        A fault that was there from the start counts from the program's first message on.
        """
        began = time.monotonic()
        if not self.messages:
            self.listen(_anything, START_S, "message")
            self._fault_us = self._healed_us = self.messages[0].ts.pub_us
            if tells(self.messages[0], self._expected, self._fault_us):
                return
        if self._expected.told:
            limit_s = 3 * self._expected.detected_s
            self.listen(lambda m: tells(m, self._expected, self._fault_us), limit_s)
        self.listen_for(lasts_s - (time.monotonic() - began))

    def heal(self, action: Callable[[], object] = lambda: None) -> None:
        """The fault ends now."""
        self._healed_us = now_us()
        action()

    def finish(self, camera: Camera) -> Record:
        """Let the program recover and tell a label; silence the camera, so that nothing is on its way; then stop."""
        bound_s = 2 * (self._expected.recovered_s or 0)
        least = least_epoch(self.messages, self._expected, self._fault_us)
        self.listen(lambda m: isinstance(m, ScoreMessage) and m.epoch >= least, bound_s)
        self.listen(lambda m: isinstance(m, StateMessage) and m.label is not None, bound_s)
        self.listen_for(SETTLE_S)
        camera.command("silent")
        self.listen(lambda m: isinstance(m, StatusMessage) and m.source == "offline", START_S, "end of the camera")
        return self.stop()

    def stop(self) -> Record:
        """End the program, if it has not ended."""
        self._program.terminate()
        self.listen(lambda m: isinstance(m, StatusMessage) and m.source == "stopped", START_S)
        self._program.wait(START_S)
        self.listen_for(SETTLE_S)
        return self._record()

    def listen_for(self, seconds: float) -> None:
        """Collect messages for a while."""
        self.listen(_nothing, seconds)

    def first_score(self) -> ScoreMessage:
        """Wait for it."""
        self.listen(lambda m: isinstance(m, ScoreMessage), START_S, "score")
        return next(message for message in self.messages if isinstance(message, ScoreMessage))

    def _record(self) -> Record:
        code, log = self._program.poll(), self._log.read_text(errors="replace")
        return Record(
            self.scene, self._fault_us, self._healed_us, self.messages, self._subscriber.missed, code or 0, log, SECRET
        )

    def _said(self) -> str:
        lines: Sequence[str] = self._log.read_text(errors="replace").splitlines()
        return " ".join(lines[-3:]) or "nothing"

    def _kill(self) -> None:
        self._program.kill()
        self._program.wait()


def _anything(_message: Message) -> bool:
    return True


def _nothing(_message: Message) -> bool:
    return False


def now_us() -> int:
    """The time of day, microseconds UTC."""
    return time.time_ns() // 1000
