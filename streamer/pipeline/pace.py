"""How far apart a source gives its frames by habit: what is usual for a slow source is no loss of time. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from streamer.pipeline.sampler import Gap
from streamer.types import Frame, Timeline

MOST_PERIODS = 7.5
"""Of the model's rate, between two frames: beyond that, what happened between them can only be guessed."""

_HABIT = 8  # distances of the recent past; as far apart as any of them, and half as much more, is usual
_SPARE = 1.5
_MEASURED_S, _LEAST_S = 5.0, 3.0  # the rate is measured over so long, but not over less than that
_SLOW, _QUICK = 0.9, 0.95  # of the model's rate: below, and above again, so that what is told does not flicker
_TENTH = 0.1
_HOLES = 2  # so many, one after the other, without a label between them: there will be none

Kind = Literal["", "slow", "no labels"]


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a frame is from the one before it, which the source gave just before.

    before_us   time of that frame; None if there is none, or none that this one could be compared with
    patience_us distances up to this one are usual for the source, microseconds
    slow        the source gives fewer frames than the model takes, so that pictures between them are wanted
    """

    before_us: int | None = None
    patience_us: int = 0
    slow: bool = False


UNKNOWN = Distance()
"""Of a frame that comes first."""


class Pace:
    """Watches all frames of one source for a model that takes `rate_hz` of them a second.

    model_hz  what the model takes
    rate_hz   of the source over the last 5 s, holes left out, to a tenth, so that it rests; None while it is not known
    slow      the source gives clearly fewer frames than the model takes
    """

    def __init__(self, rate_hz: float) -> None:
        self.model_hz = rate_hz
        self._period_us = 1e6 / rate_hz
        self._most_us = round(MOST_PERIODS * self._period_us)
        self._last: tuple[int, int, Timeline] | None = None  # time, connection and timeline of the last frame
        self._habit: deque[int] = deque(maxlen=_HABIT)
        self._measured: deque[int] = deque()
        self._span_us = 0  # the sum of them
        self.rate_hz: float | None = None
        self.slow = False

    def see(self, frame: Frame) -> Distance:
        """Hear of the next frame, before anything is left out."""
        last, self._last = self._last, (frame.time_us, frame.connection, frame.timeline)
        if last is None or last[1:] != self._last[1:] or frame.time_us <= last[0]:
            self._habit.clear()
            self._measured.clear()
            self._span_us = 0
            return UNKNOWN
        patience_us, slow = self._most_us, False  # nobody knows it yet
        if len(self._habit) > 1:
            patience_us = min(self._most_us, round(_SPARE * max(self._habit)))
            slow = _SLOW * sum(self._habit) > len(self._habit) * self._period_us
        distance_us = frame.time_us - last[0]
        self._habit.append(distance_us)
        if distance_us <= self._most_us:
            self._measure(distance_us)
        return Distance(last[0], patience_us, slow)

    def _measure(self, distance_us: int) -> None:
        self._measured.append(distance_us)
        self._span_us += distance_us
        while self._span_us - self._measured[0] > _MEASURED_S * 1e6:
            self._span_us -= self._measured.popleft()
        span_s = self._span_us / 1e6
        if span_s < _LEAST_S:
            return
        rate_hz = len(self._measured) / span_s
        if self.rate_hz is None or abs(rate_hz - self.rate_hz) > _TENTH * self.rate_hz:
            self.rate_hz = rate_hz
        self.slow = rate_hz * self._period_us < 1e6 * (_QUICK if self.slow else _SLOW)


class Slowness:
    """What it means for the labels that a source gives too few frames, in a sentence.

    kind      "slow": labels are less sure; "no labels": there are none; "" for a source that is quick enough
    sentence  about it
    spells    the sentences of all kinds so far
    """

    def __init__(self, uri: str, pace: Pace, max_gap: float) -> None:
        self.kind: Kind = ""
        self.sentence = ""
        self.spells: dict[Kind, str] = {}
        self._uri, self._pace = uri, pace
        self._most_s = max(max_gap, MOST_PERIODS) / pace.model_hz
        self._holes, self._longest_s = 0, 0.0

    def hole(self, gap: Gap, *, own: bool) -> None:
        """There was a gap; `own`: the source left it, and not the pipeline."""
        if own and gap.reason == "gap":
            self._holes += 1
            self._longest_s = max(self._longest_s, (gap.to_us - gap.from_us) / 1e6)

    def ready(self) -> None:
        """The network says something."""
        self._holes, self._longest_s = 0, 0.0

    def look(self) -> None:
        """To be called with every frame that is taken."""
        self.kind, self.sentence = self._now()
        if self.kind:
            self.spells.setdefault(self.kind, self.sentence)

    def _now(self) -> tuple[Kind, str]:
        if self._holes >= _HOLES:
            what = f"{self._uri}: no frame for {self._longest_s:.2g} s, again and again"
            need = f"the model needs one every {self._most_s:.2g} s: no labels"
            return "no labels", f"{what}; {need}; raise its frame rate, or max_gap"
        if self._pace.slow:
            what = f"{self._uri}: {self._pace.rate_hz:.2g} frames a second, the model takes {self._pace.model_hz:g}"
            return "slow", f"{what}: pictures in between are interpolated, and labels are less sure"
        return "", ""
