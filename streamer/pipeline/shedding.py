"""What is done when the engine cannot keep up with the cameras: every stream is sampled less often, in stages.

Dropping frames alone would keep up, too, but at random: the network would see time run unevenly, and each hole that is
long enough would take its memory. A wider step is even, is announced, and costs no memory. Stage k takes one frame of
STEPS[k]; the steps grow by a half or less from the second stage on, so that no more is given up than needed. Beyond the
last one, about one frame a second, there is no motion left to see, and dropping does the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from streamer.labels.messages import SourceState
from streamer.pipeline.stream import Stream
from streamer.sources.reader import Health

log = logging.getLogger(__name__)

STEPS = (1, 2, 3, 4, 6, 8)
"""By stage: the sample step, in periods of the rate that the network was trained at."""

LOOK_S = 1.0
_SECONDS, _BAD_SECONDS, _LOST = 4, 3, 0.05  # frames lost in 3 of the last 4 seconds, 5 % of all: too slow
_ROOM = 0.7  # share of the narrower step that the turns of the loop may take, for a way back
CALM_S = 10  # seconds in a row with room for the narrower step before it is taken
_MOST_CALM_S = 320  # after setbacks
_SETBACK_S = 60  # widening so soon after narrowing: narrowing was wrong, the next one takes twice as long


class Shedding:
    """Chooses the stage from what happened, second by second. Pure.

    Widens after 3 seconds of loss, narrows after 10 seconds of room, one stage at a time. When narrowing proves wrong
    within a minute, the next one waits twice as long, up to 320 seconds, so that the stage comes to rest.

    stage     0: nothing is shed
    period_s  of the network's sample rate
    """

    def __init__(self, period_s: float) -> None:
        self.stage = 0
        self._period_s = period_s
        self._recent: deque[tuple[int, int]] = deque(maxlen=_SECONDS)  # (lost, seen)
        self._calm_s = 0
        self._patience_s = CALM_S
        self._since_narrowed = _SETBACK_S
        self._narrowing = False  # the last change was one

    @property
    def step(self) -> int:
        """The sample step of the stage."""
        return STEPS[self.stage]

    def __str__(self) -> str:
        if not self.stage:
            return "every frame that the model wants is taken"
        rate_hz = 1 / (self.step * self._period_s)
        return f"stage {self.stage} of {len(STEPS) - 1}, one frame of {self.step} is taken, {rate_hz:.3g} a second"

    def second(self, lost: int, seen: int, turn_s: float) -> bool:
        """Hear of one more second: frames lost to a slow engine, frames that it saw, how long a turn of its loop took
        (mean). Whether the stage changed.
        """
        self._since_narrowed += 1
        if not lost and not seen:
            return False  # no camera is there: nothing to learn
        self._recent.append((lost, seen))
        room = self.stage > 0 and turn_s <= _ROOM * STEPS[self.stage - 1] * self._period_s
        self._calm_s = self._calm_s + 1 if room and not lost else 0
        if self._overloaded() and self.stage < len(STEPS) - 1:
            setback = self._since_narrowed < _SETBACK_S
            self._patience_s = min(_MOST_CALM_S, 2 * self._patience_s) if setback else CALM_S
            self._narrowing = False
            self._become(self.stage + 1)
        elif self._calm_s >= self._patience_s:
            self._patience_s = CALM_S if self._narrowing else self._patience_s
            self._since_narrowed, self._narrowing = 0, True
            self._become(self.stage - 1)
        else:
            return False
        return True

    def _overloaded(self) -> bool:
        lost = [lost for lost, _ in self._recent]
        total = sum(lost) + sum(seen for _, seen in self._recent)
        return sum(map(bool, lost)) >= _BAD_SECONDS and sum(lost) > _LOST * total

    def _become(self, stage: int) -> None:
        self.stage = stage
        self._recent.clear()
        self._calm_s = 0


class Load:
    """The load of a pipeline: measured, and shed on all of its streams alike."""

    def __init__(self, period_s: float) -> None:
        self.begin(period_s)

    def begin(self, period_s: float) -> None:
        """Begin with an engine that nothing is known of, for a model with this sample period."""
        self._shedding = Shedding(period_s)
        self._counted: dict[Stream, tuple[int, int]] = {}
        self._turns, self._turning_s = 0, 0.0
        self._due_s: float | None = None

    def turned(self, seconds: float) -> None:
        """A turn of the loop in which the engine made a step took so long."""
        self._turns += 1
        self._turning_s += seconds

    @property
    def stage(self) -> int:
        """How far load is shed; 0: not at all."""
        return self._shedding.stage

    def widen(self, stream: Stream) -> None:
        """Sample the stream as the stage says; one that is not in real time waits for the engine and loses nothing."""
        if stream.intake.realtime:
            stream.intake.step = self._shedding.step

    def condition(self, stream: Stream, health: Health) -> tuple[SourceState, str]:
        """What a status says: the source's condition, or `degraded` where that is good but load is shed."""
        if health.state == "online" and self.stage and stream.intake.realtime:
            return "degraded", f"the engine was too slow: {self._shedding}"
        return health.state, health.detail

    def look(self, now_s: float, streams: Sequence[Stream], waiting: Sequence[Stream]) -> None:
        """Widen or narrow the step of all streams if it is time to; to be called often, with the time by any clock.

        waiting: those that have no row of the engine yet; what they lose does not count.
        """
        if self._due_s is not None and now_s < self._due_s:
            return
        began, self._due_s = self._due_s is None, now_s + LOOK_S
        before, self._counted = self._counted, {s: (s.late, s.inferred) for s in streams if s.intake.realtime}
        turns, turning_s, self._turns, self._turning_s = self._turns, self._turning_s, 0, 0.0
        if began:
            return
        new = [
            (late - before[stream][0], inferred - before[stream][1])
            for stream, (late, inferred) in self._counted.items()
            if stream in before and stream not in waiting
        ]
        lost, seen = (sum(counts) for counts in zip(*new, strict=True)) if new else (0, 0)
        stage = self.stage
        if self._shedding.second(lost, seen, turning_s / max(1, turns)):
            for stream in streams:
                self.widen(stream)
            if self.stage > stage:
                log.warning("the engine is too slow: %s", self._shedding)
            else:
                log.info("the engine has room again: %s", self._shedding)
