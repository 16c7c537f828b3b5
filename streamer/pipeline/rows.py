"""Which stream has which row of the engine's state, while streams come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from engines import Engine, EngineError, EngineState
from streamer.pipeline.batcher import Batcher, Row
from streamer.pipeline.meters import Probe
from streamer.pipeline.stream import Stream, advance

CLOSE_S = 10.0  # how long closing waits for a state that is being made: a compiler must not outlive the interpreter


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
        self._in_background = in_background
        self._making: Future[EngineState] | None = None
        self._left: list[Future[EngineState]] = []  # of engines that others took the place of

    def step(self, now_us: Callable[[], int], now_s: float | None = None) -> list[Stream]:
        """One step of the engine, as `advance`."""
        return advance(self.batcher, self._rows, now_us, now_s)

    def expects(self, now_s: float, until_s: float) -> bool:
        """Whether a step would run now without the frame of a stream that should arrive until then (monotonic)."""
        streams = [stream for stream in self._rows if stream]
        silent = [stream for stream in streams if not stream.waiting]
        return len(silent) < len(streams) and any(stream.intake.is_due(now_s, until_s) for stream in silent)

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
