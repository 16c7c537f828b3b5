"""A fleet on one machine: a head and nodes, each as a user starts it, and a reader of the fleet's address.

Where that is allowed each has a network of its own (nets.py), and the cameras have one; else all are on loopback.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from streamer import EventMessage, GapMessage, Message, ScoreMessage, StatusMessage, Subscriber
from streamer.labels.requests import ask
from tools.cameras import RtspServer, missing_for_rtsp, write_rtsp_clip
from tools.errors import ToolError
from tools.faults.nets import Nets
from tools.peers.program import free_port

START_S = 120.0  # for Ray, three nodes and their engines to start
MARK = "ACTION_STREAMER_FAULTS"  # in the environment of each process of a machine, so that all are found
CAMERAS = "cameras"  # the machine that they are on
RTSP = 4  # real cameras among the streams, where there is an RTSP server


class Machines:
    """The head, the nodes `a`, `b` and `c`, and `told`: when each message came (monotonic), and the message.

    nets     of each machine; None: loopback
    command  starts the program under test; None: this checkout's
    cameras  the real ones among the streams, by name
    """

    def __init__(
        self, folder: Path, streams: int, engine: str, nets: Nets | None = None, command: str | None = None
    ) -> None:
        self.folder, self.nodes, self.nets = folder, ("a", "b", "c"), nets
        self.cameras: dict[str, RtspServer] = {}
        self.told: list[tuple[float, Message]] = []
        self.control = ""
        self._command = shlex.split(command) if command else [sys.executable, "-m", "streamer"]
        self._marks = {name: uuid.uuid4().hex for name in ("head", *self.nodes)}
        self._at = f"{self._host('head')}:{free_port()}"
        self.labels = f"ipc://{folder}/labels" if nets else f"tcp://127.0.0.1:{free_port()}"
        self._stack = ExitStack()
        self._stop = threading.Event()
        self.names = [f"cam{number}" for number in range(streams)]
        sources = [{"uri": uri, "name": name} for name, uri in zip(self.names, self._uris(streams), strict=True)]
        run = {"backend": "scripted"} if engine == "scripted" else {"model": "default", "engine": {"threads": 1}}
        (folder / "fleet.yaml").write_text(yaml.safe_dump({"sources": sources, "run": run}))

    def _uris(self, streams: int) -> list[str]:
        uris = [f"pattern://swipe?size=64x48&fps=10&seed={number}" for number in range(streams)]
        if not missing_for_rtsp():
            write_rtsp_clip(self.folder / "clip", 250, keys=25)
            for number in range(min(RTSP, streams)):
                name = self.names[number]
                self.begin_camera(name)
                uris[number] = self.cameras[name].url()
        return uris

    def begin_camera(self, name: str) -> None:
        """Start a real camera, again at the port where it was."""
        port = self.cameras[name].port if name in self.cameras else 0
        before = self.nets.command(CAMERAS) if self.nets else ()
        self.cameras[name] = RtspServer(self.folder / "clip", port=port, host=self._host(CAMERAS), before=before)

    def _host(self, name: str) -> str:
        if self.nets:
            return self.nets.hosts[name]
        return f"127.0.0.{2 + self.nodes.index(name)}" if name in self.nodes else "127.0.0.1"

    def __enter__(self) -> Machines:
        try:
            self.begin_head()
            for name in self.nodes:
                self.begin_node(name)
            reader = Subscriber(self.labels, timeout_s=0.2, queue=1_000_000)
            self._stack.callback(reader.close)
            thread = threading.Thread(target=self._read, args=(reader,))
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(self._stop.set)
            self.wait(self._is_balanced, START_S, "three nodes with streams")
            self.wait(self.is_steady, START_S, "labels of every stream")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of every machine."""
        self._stack.close()
        for camera in self.cameras.values():
            camera.kill()
        for name in self._marks:
            self.signal(name, signal.SIGKILL)

    def begin_head(self) -> None:
        """Start the head; returns when it has told where it is."""
        options = ("-c", "fleet.yaml", "--labels", self.labels, "--at", self._at, "--folder", "head")
        process = self._head = self._begin("head", "head", *options)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("control"):
                self.control = line.split()[1]
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return
        raise ToolError(f"the head has ended: {(self.folder / 'head.log').read_text()[-2000:]}")

    def end_head(self) -> None:
        """Tell the head to end, as Ctrl-C does; returns when it has. Raises ToolError if it ends in another way."""
        self._head.terminate()
        self.wait(lambda: not self.processes("head"), START_S, "the head has ended")
        if code := self._head.wait():
            raise ToolError(f"the head ended with {code}")

    def begin_node(self, name: str) -> None:
        """Start a node."""
        place = ("--at", self._host(name), "--folder", str(self.folder / name))
        options = ("--name", name, "--rows", str(len(self.names)), *place)
        self._begin(name, "join", self._at, "--token-file", "head/token", *options)

    def _begin(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [*(self.nets.command(name) if self.nets else ()), *self._command, "fleet", *arguments],
                cwd=self.folder, env={**os.environ, MARK: self._marks[name], "XDG_RUNTIME_DIR": str(self.folder)},
                stdout=subprocess.PIPE if name == "head" else log, stderr=log, text=True,
            )  # fmt: skip

    def processes(self, name: str) -> list[int]:
        """All processes of a machine."""
        mark = f"{MARK}={self._marks[name]}".encode()
        found = []
        for path in Path("/proc").iterdir():
            with suppress(OSError):
                if path.name.isdigit() and mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a machine, as if it were switched off (KILL) or cut off (STOP)."""
        for process in self.processes(name):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def hang_run(self, name: str) -> None:
        """Stop the run of a node, and nothing else there, for good; if it has one now."""
        with suppress(OSError):
            os.kill(int((self.folder / name / "run.pid").read_text().split()[0]), signal.SIGSTOP)

    def memory_mb(self, name: str) -> float:
        """What all processes of a machine have in memory for themselves; what they share with others is not in it."""
        return round(sum(map(_memory_mb, self.processes(name))), 1)

    def head_size(self) -> tuple[float, int]:
        """What the head's own process, with its hub, has in memory for itself (MB), and how many open files."""
        return round(_memory_mb(self._head.pid), 1), len(list(Path(f"/proc/{self._head.pid}/fd").iterdir()))

    def status(self) -> dict[str, Any]:
        """What `streamer fleet status --json` prints."""
        return dict(ask(self.control, {"command": "status"}, timeout_s=10))

    def order(self, **request: Any) -> Any:
        """What the commands of `streamer fleet` ask the head."""
        return ask(self.control, request, timeout_s=30)

    def run_of(self, name: str) -> dict[str, Any]:
        """What the run of a node says of itself."""
        return dict(ask(f"ipc://{self.folder / name}/run.control", {"command": "status"}, timeout_s=10))

    def on(self, name: str) -> list[str]:
        """The streams of a node."""
        return [one["stream"] for one in self.status()["streams"] if one["node"] == name]

    def fullest(self) -> str:
        """The node with the most streams."""
        return max(self.nodes, key=lambda name: len(self.on(name)))

    def _is_balanced(self) -> bool:
        """Whether all nodes are there and have streams; asked until it is so."""
        told = self.status()
        if len([one for one in told["nodes"] if one["state"] == "up"]) < len(self.nodes) or told["moving"]:
            return False
        if all(self.on(name) for name in self.nodes):
            return True
        self.order(command="balance")
        return False

    def is_steady(self) -> bool:
        """Whether every stream has told a score in the last 3 seconds."""
        since = time.monotonic() - 3
        return self.scoring(self.names, since) == set(self.names)

    def scoring(self, names: Iterable[str], since: float, but: str = "") -> set[str]:
        """Those of the streams that have told a score since then, from another node than `but`."""
        wanted = set(names)
        return {m.stream for m in self.since(since, ScoreMessage) if m.stream in wanted and m.node != but}

    def connecting(self, names: Iterable[str], since: float) -> set[str]:
        """Those of the streams of which it was told since then that nobody has them."""
        wanted = set(names)
        told = self.since(since, StatusMessage)
        return {m.stream for m in told if m.stream in wanted and m.source == "connecting"}

    def since(self, since: float, kind: type[Any]) -> list[Any]:
        """The messages of a kind that came since then."""
        found = []
        for index in reversed(range(len(self.told))):  # it only grows meanwhile
            at, message = self.told[index]
            if at < since:
                break
            if isinstance(message, kind):
                found.append(message)
        return found[::-1]

    def wait(self, done: Callable[[], Any], longest_s: float, what: str) -> float:
        """How long it took until this holds. Raises ToolError."""
        began = time.monotonic()
        while time.monotonic() - began < longest_s:
            with suppress(Exception):  # the head may be away
                if done():
                    return time.monotonic() - began
            time.sleep(0.05)
        raise ToolError(f"there was nothing of this within {longest_s:g} s: {what}")

    def _read(self, reader: Subscriber) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                self.told.append((time.monotonic(), next(reader)))

    def messages(self) -> Sequence[Message]:
        """All that was told."""
        return [message for _, message in self.told]


def _memory_mb(process: int) -> float:
    total = 0
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1024


def samples_missed(scores: Sequence[ScoreMessage]) -> int:
    """The most samples that are missing between two scores of a stream."""
    last: dict[str, int] = {}
    worst = 0
    for score in scores:
        if score.stream in last:
            missing = round((score.window.last_us - last[score.stream]) / 1e3 / score.window.step_ms) - 1
            worst = max(worst, missing)
        last[score.stream] = score.window.last_us
    return worst


def summary(messages: Sequence[Message]) -> str:
    """How many messages of which kind."""
    events = sum(isinstance(message, EventMessage) for message in messages)
    gaps = sum(isinstance(message, GapMessage) for message in messages)
    return f"{len(messages)} messages, {events} of events, {gaps} gaps"
