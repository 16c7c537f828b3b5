"""Which stream has which row of the engine's state, while streams come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from itertools import pairwise
from typing import TypeVar

from engines import Engine, EngineError, EngineState
from streamer.pipeline.batcher import Batcher, Row
from streamer.pipeline.meters import Probe
from streamer.pipeline.stream import Stream, advance

SORT_S = 1.0  # how often it is looked whether rows stand as their frames arrive
_NEWER = 0.2  # weight of the newest step in what computing a part takes
_WORTH = 2  # a part is held back for a frame that is due within so many times what computing it takes,
_PARTS, _SHARE = 4, 0.6  # for so many times that, and such a share of the period, at most
_BETTER = 0.7  # streams change their rows only if parts fill up in this share of the time
CLOSE_S = 10.0  # how long closing waits for a state that is being made: a compiler must not outlive the interpreter

T = TypeVar("T")


def sizes(ready: int | None) -> list[int]:
    """The numbers of rows that are made ready for so many streams: 1, 2, 4, ..., and that number."""
    return [] if ready is None else [*(1 << power for power in range((ready - 1).bit_length())), ready]


class Rows:
    """The batcher, and the stream of each of its rows; as many rows as streams, so that a step costs no more.

    Another number of rows needs another state of the engine. To make one may take seconds (OpenVINO compiles the graph
    for each size), so `in_background` does it, and calls are short. Meanwhile those that have a row go on; they keep
    what it remembers when they move to the new state.

    ready: the sizes for so many streams are made here, and then used, so that nobody waits; a step then has up to twice
    as many rows as streams.
    """

    def __init__(
        self,
        engine: Engine,
        streams: Sequence[Stream],
        in_background: Callable[[Callable[[], EngineState]], Future[EngineState]],
        probe: Probe | None = None,
        ready: int | None = None,
    ) -> None:
        self._sizes = sizes(ready)
        for rows in self._sizes:
            engine.new_state(rows)
        self.batcher = Batcher(engine, self._size(streams), probe)
        self._engine = engine
        self._rows: list[Stream | None] = [*streams, *[None] * (self._size(streams) - len(streams))]
        self._held: set[Stream] = set()
        self._part_s = 0.0  # that computing a part takes, about
        self._sort_s = 0.0
        self._in_background = in_background
        self._making: Future[EngineState] | None = None
        self._left: list[Future[EngineState]] = []  # of engines that others took the place of

    def step(self, now_us: Callable[[], int], now_s: float | None = None) -> list[Stream]:
        """One step of the engine, as `advance`, without the streams that `wait_s` holds back."""
        if now_s is not None and now_s >= self._sort_s:
            self._sort_s = now_s + SORT_S
            self._sort()
        going = [stream if stream and stream not in self._held and stream.goes else None for stream in self._rows]
        advanced = advance(self.batcher, going, now_us, now_s)
        if advanced:
            there = set(advanced)
            parts = sum(not there.isdisjoint(part) for part in self._parts(self._rows))
            self._part_s += _NEWER * (self.batcher.took_s / parts - self._part_s)
        return advanced

    def wait_s(self, now_s: float, patience_s: float) -> float:
        """How long the next step should wait for frames that are due, by the monotonic clock; 0: not at all.

        The engine computes its rows in parts (`Engine.together`), and all of a part for a single frame. So a part is
        held back while another of its streams is due within twice the time that computing it takes, though not for
        longer than four times that; and while one is due within `patience_s` of its first frame. With a patience of 0
        nothing is held back.
        """
        self._held, waits = set(), []
        for part in self._parts(self._rows) if patience_s else ():
            waiting, silent = _divided(part)
            if not waiting:
                continue
            waits.append(0.0)
            first_s = min(stream.waits_since_s or 0.0 for stream in waiting)
            enough_s = min(_PARTS * self._part_s, _SHARE * min(stream.intake.period_s for stream in waiting))
            for limit_s, until_s in (
                (first_s + patience_s, first_s + patience_s),
                (first_s + enough_s, now_s + _WORTH * self._part_s),
            ):
                if now_s < limit_s and any(one.intake.is_due(now_s, until_s) for one in silent):
                    waits[-1] = max(waits[-1], min(limit_s, until_s) - now_s)
            if waits[-1]:
                self._held.update(waiting, silent)
        return min(waits, default=0.0)

    def _parts(self, rows: Sequence[T]) -> list[Sequence[T]]:
        """The rows that the engine computes at once."""
        size = self._engine.together or len(rows)
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def _sort(self) -> None:
        """Let streams whose frames arrive one after the other have neighbouring rows, so that parts fill up soon."""
        if len(self._parts(self._rows)) < 2:
            return
        phases = {index: stream.intake.phase_s for index, stream in enumerate(self._rows) if stream}
        known = {index: phase for index, phase in phases.items() if phase is not None}
        if not known or len(known) < len(phases):
            return
        period_s = max(stream.intake.period_s for stream in self._rows if stream)
        order = _round(known, period_s)
        order += [index for index in range(len(self._rows)) if index not in known]
        spread_s, sorted_s = (
            sum(_arc([known[index] for index in part if index in known], period_s) for part in self._parts(rows))
            for rows in (range(len(self._rows)), order)
        )
        if sorted_s < _BETTER * spread_s:
            self.batcher.reorder(order)
            self._rows = [self._rows[index] for index in order]

    def waiting(self, streams: Sequence[Stream]) -> list[Stream]:
        """Those of the streams that have no row yet."""
        return [stream for stream in streams if stream not in self._rows]

    def arrange(self, streams: Sequence[Stream]) -> EngineError | None:
        """Go on towards one row for each of `streams`, the only ones from now on; to be called between steps, often.

        The error if the engine cannot have so many rows: those that wait will never get one.
        """
        wanted = self._size(streams)
        if not self._making and len(self._rows) == wanted and {row for row in self._rows if row} == set(streams):
            return None
        self._rows = [row if row in streams else None for row in self._rows]
        waiting = self.waiting(streams)
        while waiting and None in self._rows:
            self._rows[self._rows.index(None)] = waiting.pop(0)
        if self._making is None:
            if wanted != len(self._rows):
                self._making = self._in_background(lambda: self._engine.new_state(wanted))
            return None
        if not self._making.done():
            return None
        making, self._making = self._making, None
        error = making.exception()
        if isinstance(error, EngineError) and waiting:
            return error
        state = making.result()
        if state.rows == wanted:
            kept = [index for index, stream in enumerate(self._rows) if stream]
            self.batcher.move(state, kept)
            rows = [*(self._rows[index] for index in kept), *waiting]
            self._rows = rows + [None] * (wanted - len(rows))
        return None

    def _size(self, streams: Sequence[Stream]) -> int:
        """How many rows so many streams have."""
        wanted = max(1, len(streams))
        return next((size for size in self._sizes if size >= wanted), wanted)

    def exchange(self, engine: Engine, state: EngineState, streams: Sequence[Stream]) -> None:
        """Go on with another engine, and a state of it, for these streams; to be called between steps.

        The engine before is closed, as soon as no state of it is being made any more.
        """
        before, self._engine = self._engine, engine
        self.batcher.exchange(engine, state)
        self._part_s = 0.0
        seen = streams[: state.rows]
        self._rows = [*seen, *[None] * (state.rows - len(seen))]
        if self._making:
            self._making.add_done_callback(lambda _: before.close())
            self._left = [made for made in (*self._left, self._making) if not made.done()]
            self._making = None
        else:
            before.close()

    def give(self, stream: Stream) -> Row | None:
        """What the engine remembers of a stream; None if it has no row. To be called between steps."""
        return self.batcher.give(self._rows.index(stream)) if self.has(stream) else None

    def has(self, stream: Stream) -> bool:
        """Whether a stream has a row."""
        return stream in self._rows

    def take(self, stream: Stream, row: Row) -> None:
        """Let the engine remember this of a stream that has a row. To be called between steps."""
        self.batcher.take(self._rows.index(stream), row)

    def close(self) -> None:
        """Wait for states that are being made."""
        wait([*self._left, *([self._making] if self._making else [])], CLOSE_S)


def _divided(rows: Sequence[Stream | None]) -> tuple[list[Stream], list[Stream]]:
    """The streams of these rows for which a frame waits, and the others."""
    waiting: list[Stream] = []
    silent: list[Stream] = []
    for stream in rows:
        if stream:
            (waiting if stream.waiting else silent).append(stream)
    return waiting, silent


def _round(phases: Mapping[int, float], period_s: float) -> list[int]:
    """Those that have these phases, going round, from the one before which nothing comes for the longest time."""
    order = sorted(phases, key=phases.__getitem__)
    distances = [(phases[after] - phases[before]) % period_s for before, after in pairwise([order[-1], *order])]
    begin = distances.index(max(distances))
    return order[begin:] + order[:begin]


def _arc(phases: Sequence[float], period_s: float) -> float:
    """How long it takes from the first to the last of these phases, going round, whatever comes first."""
    ordered = sorted(phases)
    return (
        period_s - max(after - before for before, after in pairwise([ordered[-1] - period_s, *ordered]))
        if ordered
        else 0.0
    )
