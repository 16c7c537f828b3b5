"""The frames of a clip as a network sees them when it runs live: at its rate, in its size, by the same code."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineSpec
from engines.base import EngineState, Snapshot
from streamer.config import Config, SourceConfig
from streamer.errors import SourceError
from streamer.pipeline.replay import replay
from streamer.sources import open_source
from streamer.types import Image

MOST_S = 30.0
"""Of a clip: what comes after that is not learned from."""


class _EnoughError(Exception):
    """The rest of a clip is not read."""


class _NoState(EngineState):
    """Of an engine that remembers nothing."""

    def snapshot(self) -> Snapshot:
        """Empty."""
        return {}

    def _restore(self, snapshot: Snapshot) -> None:
        pass


class _Onlooker(Engine):
    """Keeps the frames that it is shown, and says nothing."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec, "none", "none")
        self.pieces: list[list[Image]] = []
        self._logits = np.zeros((1, len(spec.labels)), np.float32)

    def new_state(self, rows: int) -> EngineState:
        """Nothing to remember."""
        return _NoState(self.spec, rows)

    def _step(
        self,
        frames: NDArray[np.uint8],
        active: NDArray[np.bool_],  # noqa: ARG002 - of an Engine
        fresh: NDArray[np.bool_],
        state: Any,  # noqa: ARG002 - of an Engine
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if fresh[0] or not self.pieces:
            self.pieces.append([])
        self.pieces[-1].append(frames[0].copy())
        if sum(map(len, self.pieces)) >= MOST_S * self.spec.rate_hz:
            raise _EnoughError
        return self._logits, np.zeros(1, np.bool_)

    def close(self) -> None:
        """Nothing to give back."""


def frames_of(clip: Path, spec: EngineSpec) -> Image:
    """A clip -> [T, H, W, 3] uint8 BGR; of a clip with a hole in it the longest piece. SourceError for none."""
    source = open_source(SourceConfig(uri=str(clip.absolute()), pace="fast"))
    onlooker = _Onlooker(spec)
    with suppress(_EnoughError):
        replay(source, onlooker, Config(), lambda _: None)
    if not onlooker.pieces:
        raise SourceError(f"{clip}: has no frame; delete it")
    return np.stack(max(onlooker.pieces, key=len))
