"""Which moments the model was least sure of: the least sure one of each part of the day. Pure.

How sure it is, is the lead of its best label over the second one, averaged over about a second: between two actions
every model is unsure for a moment.
"""

from __future__ import annotations

import math

import numpy as np

from streamer.types import Probabilities

MOST_LEAD = 0.5  # a moment with more is none that it was unsure of
_SMOOTHING_S = 1.0
_LOST_US = 1_000_000  # without a score for so long, the average begins anew
_BETTER = 0.02  # a moment takes the place of another only if it is less sure by so much
DAY_US = 24 * 3600 * 1_000_000


def lead(probabilities: Probabilities) -> float:
    """How far the best of probabilities [K], or what they leave for nothing that the model knows, leads the second."""
    second, first = np.partition(np.append(probabilities, 1 - probabilities.sum()), -2)[-2:]
    return float(first - second)


class Unsure:
    """Picks moments of one stream, at most `a_day` in 24 hours; the day is divided evenly, in UTC.

    lead  how far the best label was ahead, on average, at the last moment that was picked
    """

    def __init__(self, a_day: int) -> None:
        self.part_us = DAY_US // a_day
        self.lead = MOST_LEAD
        self._average = 1.0
        self._part: int | None = None
        self._before_us: int | None = None
        self._since_us = 0

    def saw(self, time_us: int, probabilities: Probabilities) -> bool:
        """Whether this is the least sure moment of its part of the day so far."""
        before_us, self._before_us = self._before_us, time_us
        if before_us is None or not 0 < time_us - before_us <= _LOST_US:
            self._average, self._since_us = lead(probabilities), time_us
        else:
            gain = -math.expm1(-(time_us - before_us) / 1e6 / _SMOOTHING_S)
            self._average += gain * (lead(probabilities) - self._average)
        if self._part != time_us // self.part_us:
            self._part, self.lead = time_us // self.part_us, MOST_LEAD
        if time_us - self._since_us < _SMOOTHING_S * 1e6 or self._average > self.lead - _BETTER:
            return False
        self.lead = self._average
        return True
