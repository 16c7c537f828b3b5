"""Where runs of one user meet their `streamer ctl`: a folder that nobody else may enter, with one socket for each run.

It is `action-streamer` in $XDG_RUNTIME_DIR, or, where there is none, `action-streamer-UID` in the folder for temporary
files.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from streamer.errors import ConfigError
from streamer.labels.addresses import unreachable
from streamer.system import WINDOWS

RUN = "control"
"""What the sockets of runs end with; those of a fleet's head end with `fleet`."""
_PASSED, _PASSING_S = ".state", 600.0
_LONGEST = 84  # bytes of a folder's name: a socket's may have 107
_STARTING_S = 10.0  # a younger socket that nobody listens at may be of a run that is starting


def own_folder() -> Path:
    """The folder. Raises ConfigError where there is none that is the user's alone."""
    folder = _folders()[0]
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}; set control=ipc://PATH, or null") from error
    if not _is_private(folder):
        raise ConfigError(
            f"{folder}: is no folder of your own, or others may enter it; remove it, or set control=ipc://PATH, or null"
        )
    return folder


def new_address(suffix: str = RUN) -> str:
    """An ipc address of this process's own. Raises ConfigError as `own_folder`."""
    folder = own_folder()
    for path in folder.glob(f"*.{suffix}"):
        if unreachable(f"ipc://{path}"):  # left behind by a run that was killed
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STARTING_S:
                    path.unlink()
    return f"ipc://{folder}/{os.getpid()}-{secrets.token_hex(3)}.{suffix}"


def new_file() -> Path:
    """A name for a file that one program of this user writes and another reads soon, and deletes. Raises ConfigError.

    Those that nobody has deleted for ten minutes go.
    """
    folder = own_folder()
    for path in folder.glob(f"*{_PASSED}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _PASSING_S:
                path.unlink()
    return folder / f"{os.getpid()}-{secrets.token_hex(6)}{_PASSED}"


def find_address(suffix: str = RUN, what: str = "run") -> str:
    """The control address of the user's only run. Raises ConfigError when there is none, or more than one.

    what: the word for what is looked for, whose socket's name ends with `suffix`.
    """
    folders = _folders()
    paths = [path for folder in folders if _is_private(folder) for path in sorted(folder.glob(f"*.{suffix}"))]
    found = [address for address in map("ipc://{}".format, paths) if not unreachable(address)]
    if not found:
        places = ", ".join(map(str, folders))
        raise ConfigError(
            f"no {what} of yours takes commands here (looked in {places}); start one, or name the `control` address "
            "that it shows with --address"
        )
    if len(found) > 1:
        raise ConfigError(f"{len(found)} {what}s of yours take commands; choose one with --address: {', '.join(found)}")
    return found[0]


def _folders() -> list[Path]:
    """Where sockets may be; a run takes the first. ConfigError on Windows."""
    if WINDOWS:
        raise ConfigError("commands to a run need Unix sockets, which there are none of for Python on Windows")
    given = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    is_mine = given.is_absolute() and _is_private(given)  # after `su` it may be another user's
    temporary = dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp")))
    folders = [given / "action-streamer"] * is_mine
    folders += [folder / f"action-streamer-{os.geteuid()}" for folder in temporary]
    return [folder for folder in folders if len(os.fsencode(folder)) <= _LONGEST]


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that belongs to this user and lets nobody else in."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return mine and not stat.S_IMODE(status.st_mode) & 0o077
