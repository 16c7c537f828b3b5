"""Rows of many streams -> one step of the engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineState
from streamer.pipeline.meters import Meter, Probe
from streamer.types import Image

Row = dict[str, NDArray[Any]]
"""What the engine remembers of one stream, by name: the state's tensors, without the axis of rows."""


class Batcher:
    """Holds the engine's state and one input row for each stream; a step runs the rows filled since the last one.

    step_ms  how long the steps took, milliseconds
    took_s   how long the last one took, seconds
    """

    def __init__(self, engine: Engine, rows: int, probe: Probe | None = None) -> None:
        self._engine = engine
        self._use(engine.new_state(rows))
        self.step_ms = Meter()
        self.took_s = 0.0
        self._probe = probe or Probe()

    def _use(self, state: EngineState) -> None:
        rows, spec = state.rows, self._engine.spec
        self._state = state
        self._frames = np.zeros((rows, spec.height, spec.width, 3), np.uint8)
        self._active: NDArray[np.bool_] = np.zeros(rows, np.bool_)
        self._fresh: NDArray[np.bool_] = np.zeros(rows, np.bool_)

    def exchange(self, engine: Engine, state: EngineState) -> None:
        """Go on with another engine. To be called between two steps, when no row is filled."""
        self._engine, self.step_ms = engine, Meter()
        self._use(state)

    def move(self, state: EngineState, kept: Sequence[int]) -> None:
        """Go on with another state of the engine: its first rows remember what the rows `kept` do, the others nothing.

        To be called between two steps, when no row is filled.
        """
        snapshot = {}
        for name, before in self._state.snapshot().items():
            snapshot[name] = np.zeros((state.rows, *before.shape[1:]), before.dtype)
            snapshot[name][: len(kept)] = before[list(kept)]
        state.restore(snapshot)
        self._use(state)

    def give(self, index: int) -> Row:
        """What a row remembers. To be called between two steps."""
        return {name: value[index].copy() for name, value in self._state.snapshot().items()}

    def take(self, index: int, row: Row) -> None:
        """Let a row remember what another one did, of the same model. To be called between two steps."""
        snapshot = self._state.snapshot()
        for name, value in snapshot.items():
            value[index] = row[name]
        self._state.restore(snapshot)

    def reorder(self, order: Sequence[int]) -> None:
        """Let row i remember what row `order[i]` did. To be called between two steps, when no row is filled."""
        self._state.restore({name: before[list(order)] for name, before in self._state.snapshot().items()})

    def row(self, index: int) -> Image:
        """Where the next frame of a stream goes, [H, W, 3] uint8."""
        row: Image = self._frames[index]
        return row

    def fill(self, index: int, *, fresh: bool) -> None:
        """The row holds a frame for the next step; `fresh`: the stream's temporal state starts anew before it."""
        self._active[index] = True
        self._fresh[index] = fresh

    def step(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Run the filled rows: logits [B, K] and ready [B]; the other rows' values mean nothing."""
        started = time.perf_counter()
        with self._probe.stage("step"):
            logits, ready = self._engine.step(self._frames, self._active, self._fresh, self._state)
        self.took_s = time.perf_counter() - started
        self.step_ms.add(self.took_s * 1e3)
        self._active[:] = self._fresh[:] = False
        return logits, ready
