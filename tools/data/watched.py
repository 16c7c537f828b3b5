"""What the network of a run sees of a video file: the way of a frame from the file to the engine, with nothing behind.

So a score of clips is one of what users get: frames by their timestamps, upright, fitted as the model wants them,
and pictures between those of a slow camera.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec
from engines.backends.scripted import ScriptedEngine, ScriptedState, each_label_in_turn
from streamer.config import Config, SourceConfig
from streamer.errors import SourceError
from streamer.pipeline.replay import replay
from streamer.sources import open_source
from streamer.types import Image
from tools.data.decode import MOST_BYTES, UnreadableError, shortfall


class Witness(ScriptedEngine):
    """Keeps what it is shown: `parts`, each from a fresh start on, of pictures [H, W, 3] BGR."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec, each_label_in_turn(len(spec.labels)))
        self.parts: list[list[Image]] = []

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: ScriptedState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if fresh[0]:
            self.parts.append([])
        self.parts[-1].append(frames[0].copy())
        if sum(map(len, self.parts)) * frames.nbytes > MOST_BYTES:
            raise SourceError("its pictures are too many; cut it into shorter clips")
        return super()._step(frames, active, fresh, state)


def watched(path: Path, spec: EngineSpec) -> tuple[Image, str]:
    """The pictures [T, H, W, 3] RGB that a model sees of a file, at least as many as its clips have; and what is
    damaged about the file, or "". Of a file with gaps in its time the longest part counts; a short one stands still at
    its end.

    Raises UnreadableError.
    """
    source, witness = open_source(SourceConfig(uri=f"file:{path}", pace="fast")), Witness(spec)
    try:
        replay(source, witness, Config(), lambda _: None)
        damage = shortfall(path)
    except SourceError as error:
        told = str(error).removeprefix(f"file:{path}: ")
        raise UnreadableError(f"{path}: {told}") from error
    if source.corrupt:
        damage = f"{path}: {source.corrupt} damaged or missing frames"
    seen = max(witness.parts, key=len)
    seen += seen[-1:] * (spec.frames - len(seen))
    return np.stack(seen)[..., ::-1], damage
