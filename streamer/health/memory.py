"""How memory is handed out and looked through: a run has many threads, and goes on for long."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_ARENA_MAX = -8  # glibc's number for it
ARENAS = 2


def share_heaps() -> None:
    """Have all threads allocate from a few heaps, so that what one gives back is there for the others; glibc's default
    is eight heaps a core, each of which grows to its own peak. To be called before threads begin. No effect elsewhere.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError, TypeError):
        return  # another C library


@contextmanager
def settled() -> Iterator[None]:
    """What has been loaded until here stays as it is: the garbage collector does not look through it meanwhile, which
    it would do again and again, for some hundred thousand objects.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
