"""What is measured while the pipeline works: percentiles of the recent past, and the probe that others may attach."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np

RECENT = 4096

Stage = Literal["convert", "step", "decide", "publish"]

_NOTHING = nullcontext()


class Meter:
    """The last 4096 values of something that is measured again and again."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        """One measurement."""
        self._values.append(value)

    def percentile(self, percent: float) -> float | None:
        """A percentile of the values kept; None before the first."""
        return round(float(np.percentile(np.array(self._values), percent)), 3) if self._values else None


class Probe:
    """What the pipeline tells of its work as it goes on; this one does not listen, `metrics.Metrics` does.

    May be called from several threads at a time.
    """

    def stage(self, _stage: Stage) -> AbstractContextManager[object]:
        """Goes around one piece of work of a stage."""
        return _NOTHING

    def taken(self, stream: str, age_s: float) -> None:
        """The engine is about to see a frame that arrived this long ago."""

    def stepped(self, rows: int) -> None:
        """The engine made a step with this many rows."""

    def published(self, stream: str, age_s: float) -> None:
        """All that a frame gave was published, this long after its capture."""

    def removed(self, stream: str) -> None:
        """A stream is no more."""
