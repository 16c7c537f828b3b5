"""What is made for one machine and can be made again: engines, exported graphs, the certificates of this machine."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import stat
import tempfile
from pathlib import Path

from .errors import EngineError
from .spec import EngineSpec

LOGGER = logging.getLogger(__name__)


def cache_folder() -> Path:
    """$ACTION_STREAMER_CACHE, else action-streamer in $XDG_CACHE_HOME or ~/.cache. It need not exist.

    Where there is no home, or none that can be written, as in a container with another user: a folder of this user's
    own among the temporary files, which is told once.
    """
    given = os.environ.get("ACTION_STREAMER_CACHE")
    return Path(given) if given else default_folder(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"))


@functools.cache
def default_folder(xdg_cache_home: str | None, home: str | None) -> Path:
    """The cache of an environment that names none."""
    try:
        base = Path(xdg_cache_home) if xdg_cache_home else (Path(home) if home else Path.home()) / ".cache"
        why = None if can_be_made(base) else f"{base} cannot be written"
    except RuntimeError:  # no HOME, and no such user
        why = "there is no home folder"
    if why is None:
        return base / "action-streamer"
    try:
        own = temporary_folder()
    except OSError:
        LOGGER.warning("%s, nor the temporary files: every start compiles anew; set ACTION_STREAMER_CACHE", why)
        return Path(os.devnull, "action-streamer")  # where nothing can be
    LOGGER.warning("%s: the cache is in %s; set ACTION_STREAMER_CACHE to a folder that stays", why, own)
    return own


def temporary_folder() -> Path:
    """A folder among the temporary files that no other user can have prepared; OSError where there can be none."""
    own = Path(tempfile.gettempdir()) / f"action-streamer-{_uid()}"
    with contextlib.suppress(OSError):
        own.mkdir(mode=0o700)
    return own if is_own(own) else Path(tempfile.mkdtemp(prefix="action-streamer-"))


def _uid() -> int:
    """Number of this user; on Windows 0, as `stat` has it of every file."""
    return os.getuid() if hasattr(os, "getuid") else 0


def can_be_made(folder: Path) -> bool:
    """Whether this user can write into a folder, or make it."""
    try:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError, StopIteration):
        return False


def is_own(folder: Path) -> bool:
    """Whether a folder, and no link to one, belongs to this user alone."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _uid() and not status.st_mode & 0o077


def engine_file(spec: EngineSpec, key: str) -> Path:
    """Where the TensorRT engine of a model with this key belongs; all in one folder, to share what was timed."""
    return cache_folder() / "tensorrt" / f"{spec.name}-{key}.engine"


def engine_sidecars(spec: EngineSpec) -> list[Path]:
    """The sidecars of engines that were built for models of this name."""
    return sorted((cache_folder() / "tensorrt").glob(f"{spec.name}-*.json"))


def local_graph(spec: EngineSpec, precision: str) -> Path:
    """Where a graph belongs that was exported for a build because the model came without."""
    return cache_folder() / "graphs" / f"{spec.version}.{precision}.onnx"


def local_sidecar(spec: EngineSpec) -> Path:
    """Where this machine's certificates of a model are, if not in the sidecar beside it."""
    return cache_folder() / "openvino" / f"{spec.version}.json"


def make_room(path: Path) -> Path:
    """Make the folder of a file of the cache; raises EngineError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise EngineError(
            f"{path.parent}: cannot be written: {error.strerror}; set ACTION_STREAMER_CACHE to a folder that can"
        ) from error
    return path
