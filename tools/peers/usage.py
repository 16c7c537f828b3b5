"""Whether what a run takes of the machine stays the same. Pure.

A run takes more while it is disturbed: a stream more is a thread more. So it is left in peace again and again, with the
streams that it began with and nobody but the observer, and measured then: a rest. The rests of the second half of the
time are compared, the median of the later ones with that of the earlier ones: it must be less than 2 % above it.

A run of a minute has hardly warmed up by its third quarter: what is allocated once (buffers of decoders, the meters'
4096 values, the allocator's arenas) still comes. Below ten minutes memory may grow by 5 MiB instead: only a gross leak
shows. Threads and descriptors get no such allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MOST_GROWTH = 0.02
SHORT_MINUTES = 10.0
SHORT_MIB = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program and its children take: resident memory in MiB, threads, file descriptors, processes."""

    mib: float
    threads: float
    descriptors: float
    processes: float


MEASURES: tuple[str, ...] = Usage.__slots__


@dataclass(frozen=True, slots=True)
class Rest:
    """What a run took when it was left in peace, `at` in parts of the whole time, 0 to 1."""

    at: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Growth:
    """A measure's medians in the third and the last quarter, and whether it stayed as it was."""

    measure: str
    before: float
    after: float
    flat: bool

    @property
    def percent(self) -> float:
        """By how much it grew."""
        return 100 * (self.after - self.before) / self.before


def growth(rests: Sequence[Rest], minutes: float) -> list[Growth]:
    """Each measure over the second half of a run; [] when it had less than two rests."""
    half = [rest.usage for rest in rests if rest.at >= 0.5]
    third, last = half[: len(half) // 2], half[len(half) // 2 :]
    if not third:
        return []
    found = []
    for measure in MEASURES:
        before, after = (median(getattr(usage, measure) for usage in usages) for usages in (third, last))
        allowed = SHORT_MIB if measure == "mib" and minutes < SHORT_MINUTES else 0.0
        flat = after - before < max(MOST_GROWTH * before, allowed)
        found.append(Growth(measure, before, after, flat))
    return found


def mib_an_hour(rests: Sequence[Rest], minutes: float) -> float | None:
    """The memory's slope over the second half: the median of the slopes between all pairs of rests (Theil and Sen)."""
    half = [rest for rest in rests if rest.at >= 0.5]
    slopes = [
        (b.usage.mib - a.usage.mib) / ((b.at - a.at) * minutes / 60)
        for n, a in enumerate(half)
        for b in half[n + 1 :]
        if b.at > a.at
    ]
    return median(slopes) if slopes else None
