"""Percentiles of the recent past, in bounded memory."""

from __future__ import annotations

from collections import deque

import numpy as np

RECENT = 4096


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
