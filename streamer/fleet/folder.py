"""What survives a process: files that are whole or not there, folders that one process has, children found again."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from streamer.errors import ConfigError

_LOOK_S = 0.05


def write(path: Path, content: bytes) -> None:
    """Write a file that its user alone may read, whole or not at all. Raises ConfigError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


def private(folder: Path) -> Path:
    """A folder that its user alone may enter, made if it is not there. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror or error}") from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(f"{folder}: it holds secrets and others may enter it; run chmod 700 {folder}, as its owner")
    return folder


def take(folder: Path, who: str) -> int:
    """Have a folder for this process alone, as long as it lives; returns the descriptor that holds it. Raises
    ConfigError if another has it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ConfigError(f"{folder}: {who} uses it already; stop that one, or name another folder") from error
    return lock


def is_taken(folder: Path) -> bool:
    """Whether a process has a folder."""
    try:
        os.close(take(folder, ""))
    except ConfigError:
        return True
    except OSError:
        return False
    return False


class Child:
    """A process with a session of its own, which goes on when its parent dies, and is found again by its file.

    The file has its number and when it began, so that another process with that number is not taken for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._popen: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        self._pid, self._began = 0, ""
        with suppress(OSError, ValueError):
            pid, began = path.read_text(encoding="ascii").split()
            self._pid, self._began = int(pid), began

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path | None = None) -> None:
        """Begin it; its errors go where this process's go. log: where its output goes; None: nowhere."""
        with open(log or os.devnull, "wb") as out:  # noqa: PTH123
            self._popen = subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out if log else None,
                start_new_session=True,
            )
        self._pid, self.code = self._popen.pid, None
        self._began = _began(self._pid)
        write(self._path, f"{self._pid} {self._began}".encode())

    @property
    def alive(self) -> bool:
        """Whether it runs. `code` is its exit code as soon as it has ended, if it was started here."""
        if self._popen:
            self.code = self._popen.poll()
            return self.code is None
        return bool(self._pid) and _began(self._pid) == self._began

    def stop(self, within_s: float) -> None:
        """Ask it to end, and after a time end it, with all processes of its session's group."""
        if not self._pid or not (self.alive or self._popen):
            return
        for number, wait_s in ((signal.SIGTERM, within_s), (signal.SIGKILL, 1.0)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
            ends = time.monotonic() + wait_s
            while self._group_lives() and time.monotonic() < ends:
                time.sleep(_LOOK_S)
        self._path.unlink(missing_ok=True)
        if not self.alive:  # it was wanted: there is no child, and so no exit code
            self._popen, self._pid, self.code = None, 0, None

    def _group_lives(self) -> bool:
        if self._popen:
            self._popen.poll()
        try:
            os.killpg(self._pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _began(pid: int) -> str:
    """When a process began, in ticks of the machine; "-" where that is not told, "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return ""
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return "-"
        return ""
    return "" if fields[0] == "Z" else fields[19]
