"""The run under test, `streamer run` in a process of its own: how it is started, asked, measured and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec
import yaml

from engines.backends.scripted import Script, each_label_in_turn
from streamer.labels.requests import ask
from tools.errors import ToolError
from tools.peers.usage import Usage

START_S = 60.0
ANSWER_S = 20.0  # longest wait for an answer: more is a deadlock
STOP_S = 20.0
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # before a command: a run is killed with the program that tries it
LABELS = ("wave", "point", "clap", "nod")


def write_script(folder: Path, rate_hz: float = 10.0, size: int = 112) -> Path:
    """A model that says one label after the other, two seconds each, whatever it sees."""
    path = folder / "soak.scores.json"
    scores = tuple(tuple(map(float, row)) for row in each_label_in_turn(len(LABELS)))
    script = Script(labels=LABELS, scores=scores, rate_hz=rate_hz, height=size, width=size)
    path.write_bytes(msgspec.json.encode(script))
    return path


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """`streamer run` with these sources; its log goes to `folder`. capture: as in the configuration. page: serve it."""

    def __init__(
        self,
        folder: Path,
        model: str,
        sources: Sequence[dict[str, Any]],
        capture: str = "thread",
        page: bool = False,
    ) -> None:
        self.labels, self.control = f"tcp://127.0.0.1:{free_port()}", f"ipc://{folder}/control"
        self.web = f"127.0.0.1:{free_port()}"
        self.page = f"127.0.0.1:{free_port()}" if page else None
        self.sources = sources
        self.log = folder / "log.jsonl"
        config = folder / "soak.yaml"
        settings: dict[str, Any] = {"model": model, "control": self.control, "metrics": self.web}
        settings |= {"sources": list(sources), "view": {"address": self.page}}
        config.write_text(yaml.safe_dump(settings | {"publish": {"address": self.labels}, "capture": capture}))
        self._command = [
            *DIES_WITH_US,
            sys.executable,
            "-m",
            "streamer",
            "run",
            "-c",
            str(config),
            "--headless",
            "--log",
            "json",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own: what it leaves behind is found by that."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True, env=environment
            )

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def ask(self, command: str, **fields: Any) -> Any:
        """What a command of the control socket answers. ConfigError for a refusal, and for no answer in time."""
        return ask(self.control, {"command": command, **fields}, timeout_s=ANSWER_S)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page."""
        try:
            with urlopen(f"http://{self.web}{path}", timeout=ANSWER_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def subscriptions(self) -> int:
        """How many subscriptions it knows of."""
        line = next(
            line for line in self.get("/metrics")[1].splitlines() if line.startswith(b"streamer_subscriptions ")
        )
        return int(float(line.split()[1]))

    def usage(self) -> Usage:
        """What it takes now, its children included."""
        mib = threads = descriptors = processes = 0.0
        for pid in descendants(self.pid):
            with suppress(OSError):  # it has just ended
                proc = Path(f"/proc/{pid}")
                pages = int((proc / "statm").read_text().split()[1])
                fields = (proc / "stat").read_text().rpartition(")")[2].split()
                descriptors += len(list((proc / "fd").iterdir()))
                mib += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
                threads += int(fields[17])
                processes += 1
        return Usage(mib, threads, descriptors, processes)

    def stop(self) -> list[str]:
        """End it by SIGTERM; what is wrong with how it ended, and with what it logged."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        problems = []
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            problems.append(f"did not end within {STOP_S:g} s of SIGTERM")
        if self.exit_code():
            problems.append(f"exit code {self.exit_code()} after SIGTERM")
        if left := in_session(self.pid):
            problems.append(f"left processes behind: {left}")
        for line in self.log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                problems.append(f"its log has a line that is not of JSON: {line[:200]}")
                continue
            if record["level"] not in ("info", "warning") or "exception" in record:
                problems.append(f"logged: {record['message'][:200]}")
        return problems

    def kill(self) -> None:
        """End it and all that it started, whatever state they are in."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_until_healthy(self) -> None:
        """Until every source is online; ToolError when that takes too long or the program ends."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.exit_code() is None:
            with suppress(OSError):
                if self.get("/healthz")[0] == 200:
                    return
            time.sleep(0.2)
        raise ToolError(f"the run did not become healthy; its log ends with\n{self.log.read_text()[-2000:]}")


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))


def in_session(leader: int) -> list[int]:
    """The processes that are left of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(path.parent.name))
    return found
