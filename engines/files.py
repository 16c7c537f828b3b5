"""Files that others see whole or not at all: written beside, and renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which takes the place of `path` at the end; after an error nothing has changed.

    A link stays one, and what it names is replaced. What cannot be replaced is written as it is: a device, a pipe, a
    file in a folder where nothing may be made. Raises OSError where it cannot be written, before anything is.
    """
    target = Path(os.path.realpath(path))
    if target.exists():
        if not target.is_file() or not os.access(target.parent, os.W_OK):
            yield target
            return
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    draft = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.part")
    draft.touch(exist_ok=False)
    try:
        yield draft
        if target.exists():
            shutil.copymode(target, draft)
        try:
            draft.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            shutil.copyfile(draft, target)  # a file that is mounted, as containers do, cannot be replaced
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file with `replacing`. Raises OSError."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def same_file(one: Path, other: Path) -> bool:
    """Whether two names are of one file, by links of either kind; also of one that is not there yet."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
