"""A program for each event, which reads it as JSON from standard input. Never a shell."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from streamer.bridges.feed import Choice, EventBridge
from streamer.bridges.trouble import Trouble
from streamer.errors import ConfigError
from streamer.labels.messages import EventMessage, encode
from streamer.system import WINDOWS

CLOSE_S = 5.0  # for what runs and waits when the bridge ends
_TERM_S = 2.0  # from SIGTERM to SIGKILL
_POLL_S = 0.1

_log = logging.getLogger(__name__)


class Exec(EventBridge):
    """The bridge to a program.

    command    the program and its arguments
    at_once    how many run at a time; with more than one, the next may begin before the last has ended
    timeout_s  how long one may run; then it, and what it started, is ended
    most       events that wait at most

    The program has in its environment ACTION_STREAM, ACTION_TYPE, ACTION_LABEL, ACTION_ID, ACTION_PEAK and ACTION_CLIP.
    Raises ConfigError for a program that is not there, and on Windows.
    """

    def __init__(
        self, command: Sequence[str], choice: Choice, at_once: int = 1, timeout_s: float = 30.0, most: int = 100
    ) -> None:
        if WINDOWS:
            raise ConfigError("bridge exec: needs Linux or macOS; run it in a Linux container or virtual machine")
        program = shutil.which(command[0])
        if program is None:
            raise ConfigError(f"bridge exec: there is no program {command[0]!r} that can be run; is its path right?")
        super().__init__(choice, most)
        self._command, self._timeout_s = [program, *command[1:]], timeout_s
        self._trouble = Trouble(f"exec {command[0]}")
        self._done = self._failed = 0
        self._counting = threading.Lock()
        self._deadline_s = float("inf")  # of all that runs, once the bridge ends
        self._threads = [threading.Thread(target=self._run, name="exec", daemon=True) for _ in range(at_once)]
        for thread in self._threads:
            thread.start()

    def counts(self) -> dict[str, int]:
        """What became of the events."""
        return {
            "events": self._received,
            "done": self._done,
            "failed": self._failed,
            "dropped": self._outbox.dropped,
        }

    def close(self) -> None:
        """Let what runs and waits end for some seconds; then end what runs, and drop the rest."""
        self._deadline_s = time.monotonic() + CLOSE_S
        self._outbox.close()
        for thread in self._threads:
            thread.join(max(0.0, self._deadline_s - time.monotonic()))
        self._outbox.clear()
        for thread in self._threads:
            thread.join(_TERM_S + 1)

    def _run(self) -> None:
        while event := self._outbox.take():
            try:
                why = self._start(event)
            except Exception:  # of an event that nobody has foreseen; the next ones may be well
                _log.exception("the program could not be started for an event")
                why = "could not be started for an event"
            with self._counting:
                self._failed += bool(why)
                self._done += not why
            if why:
                self._trouble.tell(why)
            else:
                self._trouble.over("works again")

    def _start(self, event: EventMessage) -> str:
        """Run the program: why it failed, or ""."""
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, start_new_session=True, env=os.environb | _variables(event)
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        line: bytes | None = encode(event) + b"\n"
        begun_s = time.monotonic()
        while True:
            try:
                process.communicate(line, _POLL_S)
                break
            except subprocess.TimeoutExpired:
                line = None  # what it has not read yet is kept
            now_s = time.monotonic()
            if now_s > min(begun_s + self._timeout_s, self._deadline_s):
                _end(process)
                return f"did not end within {self._timeout_s:g} s, or before the bridge, and was ended"
        code = process.returncode
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TERM_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _variables(event: EventMessage) -> dict[bytes, bytes]:
    """What the program finds in its environment, which can hold no zero."""
    values = {
        "STREAM": event.stream,
        "TYPE": event.type,
        "LABEL": event.label,
        "ID": event.id,
        "PEAK": str(event.peak),
        "CLIP": event.clip.name if event.clip else "",
    }
    return {f"ACTION_{name}".encode(): text.encode().replace(b"\0", b"") for name, text in values.items()}
