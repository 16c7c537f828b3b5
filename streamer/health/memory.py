"""How the C library hands out memory: a run has many threads that come and go, and each would get a heap of its own."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # glibc's number for it
ARENAS = 2


def share_heaps() -> None:
    """Have all threads allocate from a few heaps, so that what one gives back is there for the others; glibc's default
    is eight heaps a core, each of which grows to its own peak. To be called before threads begin. No effect elsewhere.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):
        return  # another C library
