"""A stream's temporal state on its way to another run: given between two steps, written and read in other threads.

The file is one line of JSON, `Header`, and then the arrays that it names, one after the other: the engine's state of
the stream, floating point as float32, and the picture that was seen last.
"""

from __future__ import annotations

import math
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec
from streamer.errors import ConfigError
from streamer.labels.events import MOVED
from streamer.labels.runtime import new_file
from streamer.pipeline.batcher import Row
from streamer.pipeline.rows import Rows
from streamer.pipeline.stream import StreamMemory
from streamer.pipeline.watch import Watch, log
from streamer.types import Image

HEADER_BYTES, LABEL_BYTES = 64 * 1024, 256  # the most that a header has: in all, and for each label
MOST_BETWEEN = 64  # pictures between two frames


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of a stream's state begins with. arrays: name, type (numpy's), shape; last_us: of the picture."""

    model: str
    stream: str
    memory: StreamMemory
    arrays: list[tuple[str, str, list[int]]]
    last_us: int | None = None


@dataclass(frozen=True)
class Passed:
    """A stream's state, whole and of the model that this run has."""

    header: Header
    row: Row
    picture: Image | None


class Moves:
    """Gives streams away, and takes them; for the engine's thread, but `read`.

    advance  makes one step of the engine
    """

    def __init__(
        self, watch: Watch, rows: Callable[[], Rows], spec: Callable[[], EngineSpec], advance: Callable[[], object]
    ) -> None:
        self._watch, self._rows, self._spec, self._advance = watch, rows, spec, advance

    def give(self, name: str) -> Future[Path]:
        """End a stream, which another run goes on with: its open event ends with reason `moved`, so does its status.

        The file with its state, as soon as it is written. ConfigError, and the stream goes on, if it has none.
        """
        stream = self._watch.find(name)
        if stream.held is not None:
            raise ConfigError(f"{name} waits for its state, and has none to give")
        for _ in range(MOST_BETWEEN * stream.between):  # as far as its last frame
            if not stream.between:
                break
            self._advance()
        memory, last = stream.memory()
        row = self._rows().give(stream)
        if row is None:
            raise ConfigError(f"{name} has no temporal state yet: it waits for a row of the engine")
        stream.interrupt(MOVED)
        self._watch.end(stream, MOVED)
        log.info("%s: given to another run", name)
        told: Future[Path] = Future()

        def write() -> None:
            try:
                told.set_result(_write(self._spec().version, name, memory, row, last))
            except BaseException as error:  # whoever asks for the result gets it
                told.set_exception(error)

        threading.Thread(target=write, name="write state", daemon=True).start()
        return told

    def read(self, path: Path) -> Passed:
        """A file that another run has written. Any thread may ask. ConfigError if it is not of this run's model."""
        return _read(path, self._spec())

    def take(self, name: str, passed: Passed) -> None:
        """Let a stream that is held go on with a state. ConfigError, and it waits on, if that is of another."""
        stream, header = self._watch.find(name), passed.header
        if stream.held is None:
            raise ConfigError(f"{name} runs; only a stream that was added with `held` takes a state")
        if header.stream != name:
            raise ConfigError(f"this is the state of {header.stream}, not of {name}")
        _check(header, self._spec())  # it may be another by now
        if not self._rows().has(stream):
            raise ConfigError(f"{name} waits for a row of the engine; ask again")
        last = None if header.last_us is None or passed.picture is None else (header.last_us, passed.picture)
        stream.recall(header.memory, last)
        self._rows().take(stream, passed.row)
        log.info("%s: taken from another run", name)


def _write(version: str, name: str, memory: StreamMemory, row: Row, last: tuple[int, Image] | None) -> Path:
    arrays = [(key, _passed_as(value)) for key, value in row.items()]
    told = [(key, str(value.dtype), [*value.shape]) for key, value in arrays]
    header = Header(version, name, memory, told, last[0] if last else None)
    path = new_file()
    try:
        path.touch(0o600, exist_ok=False)
        with path.open("wb") as file:
            file.write(msgspec.json.encode(header) + b"\n")
            for _, value in arrays:
                file.write(np.ascontiguousarray(value).tobytes())
            if last:
                file.write(last[1].tobytes())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path}: the state of {name} cannot be written: {error.strerror}; begin it anew") from error
    return path


def _read(path: Path, spec: EngineSpec) -> Passed:
    header_bytes = HEADER_BYTES + LABEL_BYTES * len(spec.labels)
    most = header_bytes + sum(8 * math.prod(one.shape) for one in spec.states) + spec.height * spec.width * 3
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise ConfigError(f"{path}: is no state of {spec.version}: at most {most} bytes in a file are")
        with path.open("rb") as file:
            line, rest = file.readline(header_bytes), file.read(most)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        header = msgspec.json.decode(line, type=Header)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(f"{path}: is no state of a stream: {error}") from error
    _check(header, spec)
    shapes = [(dtype, tuple(shape)) for _, dtype, shape in header.arrays]
    shapes += [("uint8", (spec.height, spec.width, 3))] * (header.last_us is not None)
    if len(rest) != (needed := sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in shapes)):
        raise ConfigError(f"{path}: has {len(rest)} bytes of state, and names {needed}; it was cut off")
    values, at = [], 0
    for dtype, shape in shapes:
        values.append(np.frombuffer(rest, dtype, math.prod(shape), at).reshape(shape))
        at += values[-1].nbytes
    picture = values.pop() if header.last_us is not None else None
    row = {one.name: value.astype(one.dtype) for one, value in zip(spec.states, values, strict=True)}
    return Passed(header, row, picture)


def _check(header: Header, spec: EngineSpec) -> None:
    """ConfigError if a state is not of this model."""
    if header.model != spec.version:
        raise ConfigError(f"this state is of {header.model}, this run has {spec.version}; give both the same model")
    found = [(name, dtype, tuple(shape)) for name, dtype, shape in header.arrays]
    wanted = [(one.name, str(_passed_as(np.zeros(0, one.dtype)).dtype), tuple(one.shape)) for one in spec.states]
    for one, other in zip(found, wanted, strict=False):
        if one != other:
            raise ConfigError(f"this state of {spec.version} has {one}, and this run has {other}")
    if len(found) != len(wanted):
        raise ConfigError(f"this state of {spec.version} has {len(found)} tensors, and this run has {len(wanted)}")


def _passed_as(value: NDArray[Any]) -> NDArray[Any]:
    """Floating point as float32: backends differ in what they keep."""
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value
