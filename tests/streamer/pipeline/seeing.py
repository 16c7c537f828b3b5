"""An engine that sees, and cameras that show it something: the label is the brightness of the picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineSpec, TensorSpec
from engines.backends.scripted import ScriptedState
from streamer.config import SourceConfig
from streamer.sources import Source
from streamer.types import Frame, Image

LABELS = ("dark", "dim", "light", "bright")
SPEC = EngineSpec(
    name="seeing", labels=LABELS, height=8, width=8, rate_hz=10.0, frames=4, mode="stream", fit="stretch",
    network="none", backbone="none", channel_width=1.0, states=(TensorSpec("steps", (), "int64"),), files={},
)  # fmt: skip


def picture(label: int) -> Image:
    """A grey picture, 32 x 24."""
    return np.full((24, 32, 3), 32 + 64 * label, np.uint8)


class SeeingEngine(Engine):
    """Says which of four greys it sees; `ready` at the fourth frame and at every `hop`-th after it. `seen` are the
    frames' means, row by row.
    """

    def __init__(self, hop: int = 1) -> None:
        super().__init__(msgspec.structs.replace(SPEC, hop=hop), "seeing", "test")
        self.seen: list[list[int]] = []
        self.fresh: list[list[bool]] = []

    def new_state(self, rows: int) -> ScriptedState:
        return ScriptedState(SPEC, rows)

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        means = frames.mean((1, 2, 3))
        self.seen.append([int(mean) if on else -1 for mean, on in zip(means, active, strict=True)])
        self.fresh.append(fresh.tolist())
        state.steps[fresh] = 0
        state.steps[active] += 1
        labels = (means // 64).astype(int)
        beyond = state.steps - SPEC.frames
        return np.eye(4, dtype=np.float32)[labels] * 6, (beyond >= 0) & (beyond % self.spec.hop == 0)

    def close(self) -> None:
        pass


class Film(Source):
    """A recording that shows `scene(seconds)` at the given times (seconds), fast; every frame tells which it is."""

    live = False

    def __init__(self, scene: Callable[[float], int], times: Iterable[float], name: str = "film") -> None:
        super().__init__(SourceConfig(uri="film", name=name, pace="fast"))
        self._scene, self._times = scene, list(times)

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for index, time_s in enumerate(self._times):
            if stop.is_set():
                return
            image = picture(self._scene(time_s))
            yield Frame(round(time_s * 1e6), index, connection, lambda image=image: image)  # type: ignore[misc]
