"""Terms: numbers that only grow, so that of two machines that have a stream it is clear which one is heard."""

from __future__ import annotations

A_REIGN = 1_000_000  # terms of one reign; 2**53, where JavaScript's whole numbers end, is further than the year 2200


def new_reign(last: int, now_s: float) -> int:
    """The number of a head that starts: above that of the one before, and by the clock where nobody knows that one."""
    return max(last + 1, int(now_s))


class Terms:
    """The terms that a head gives. reign: the head's number, see `new_reign`."""

    def __init__(self, reign: int) -> None:
        self._last = reign * A_REIGN

    def heard(self, term: int) -> None:
        """A node has a stream of this term: those to come are above it, whoever gave it."""
        self._last = max(self._last, term)

    def next(self) -> int:
        """A term above all that were given or heard of."""
        self._last += 1
        return self._last
