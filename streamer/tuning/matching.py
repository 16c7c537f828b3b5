"""Events beside what really happened: which are right, which are false, and what was missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """What really happens from its onset at `start_s` until `end_s`."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Detection:
    """A published event: when it began, by its own account, and when that was told (`told_s` >= `start_s`)."""

    label: str
    start_s: float
    told_s: float


@dataclass(frozen=True)
class Matching:
    """Events beside what really happened; each segment and each event is in it once.

    hits    (segment, its event)
    false   events without a segment
    missed  segments without an event
    """

    hits: tuple[tuple[Segment, Detection], ...] = ()
    false: tuple[Detection, ...] = ()
    missed: tuple[Segment, ...] = ()

    def __add__(self, other: Matching) -> Matching:
        """The matching of both."""
        return Matching(self.hits + other.hits, self.false + other.false, self.missed + other.missed)

    def of(self, label: str) -> Matching:
        """Only what concerns one label."""
        return Matching(
            tuple(pair for pair in self.hits if pair[0].label == label),
            tuple(event for event in self.false if event.label == label),
            tuple(segment for segment in self.missed if segment.label == label),
        )

    @property
    def precision(self) -> float:
        """The share of events that are hits; NaN without events."""
        return share(len(self.hits), len(self.hits) + len(self.false))

    @property
    def recall(self) -> float:
        """The share of segments that are hit; NaN without segments."""
        return share(len(self.hits), len(self.hits) + len(self.missed))

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; NaN where there is neither an event nor a segment."""
        return share(2 * len(self.hits), 2 * len(self.hits) + len(self.false) + len(self.missed))

    def delay_s(self, percent: float) -> float:
        """A percentile of the times to detect, from a segment's onset to when its event was told; NaN without hits."""
        delays = [event.told_s - segment.start_s for segment, event in self.hits]
        return float(np.percentile(delays, percent)) if delays else float("nan")


def match_events(segments: Iterable[Segment], events: Iterable[Detection], tolerance_s: float = 0.3) -> Matching:
    """Find each event's segment: it has the event's label, and the event begins within it or at most `tolerance_s`
    after its end (scores are smoothed in time, so a short motion can be over when its event begins).

    A segment belongs to one event. A second event in it is false: the motion did not happen twice. An event that
    begins before the onset is false, too. Events choose in the order of their starts, and each takes the segment that
    ends first of those it may have; no other choice makes more hits.
    """
    open_segments = sorted(segments, key=lambda segment: segment.end_s)
    hits, false = [], []
    for event in sorted(events, key=lambda event: event.start_s):
        for segment in open_segments:
            last_s = segment.end_s + tolerance_s
            if segment.label == event.label and segment.start_s <= event.start_s <= last_s:
                hits.append((segment, event))
                open_segments.remove(segment)
                break
        else:
            false.append(event)
    return Matching(tuple(hits), tuple(false), tuple(sorted(open_segments, key=lambda segment: segment.start_s)))


def share(part: int, whole: int) -> float:
    """part / whole; NaN of nothing."""
    return part / whole if whole else float("nan")
