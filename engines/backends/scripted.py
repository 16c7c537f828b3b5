"""An engine without a network: it plays given scores, one row a step. For tests, demonstrations and load tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..base import Engine, EngineState, Snapshot
from ..errors import EngineError
from ..spec import EngineSpec, Frames, Labels, Size, TensorSpec, fault_of, read_json

HOLD_STEPS = 20
BARS = 10


Order = Literal["steps", "pictures"]


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`NAME.scores.json`: labels, and probabilities [N, K] that every stream plays from its start, over and over.

    order  `steps`: row n at the n-th step, whatever the frames show; `pictures`: row n for a frame that shows the
           number n in bars, as `read_numbers` has it. So tests know what became of each frame
    """

    labels: Labels
    scores: tuple[tuple[float, ...], ...]
    order: Order = "steps"
    rate_hz: Annotated[float, msgspec.Meta(ge=0.1, le=1e6)] = 10.0  # 1e6: every frame, also those of a burst
    frames: Frames = 8
    height: Size = 112
    width: Size = 112


class ScriptedState(EngineState):
    """How many steps each row has made since its start."""

    def __init__(self, spec: EngineSpec, rows: int) -> None:
        super().__init__(spec, rows)
        self.steps = np.zeros(rows, np.int64)

    def snapshot(self) -> Snapshot:
        """A copy of the state."""
        return {"steps": self.steps.copy()}

    def _restore(self, snapshot: Snapshot) -> None:
        self.steps = snapshot["steps"].copy()


class ScriptedEngine(Engine):
    """Plays scores [N, K] (probabilities) in this order, each for `hold` steps; `ready` from a row's T-th step on, as a
    network.
    """

    def __init__(self, spec: EngineSpec, scores: NDArray[np.float32], order: Order = "steps", hold: int = 1) -> None:
        states = (TensorSpec("steps", (), "int64"),)
        super().__init__(msgspec.structs.replace(spec, states=states), "scripted", "given scores, no network")
        self.logits = np.log(np.clip(scores, 1e-9, 1)).astype(np.float32)
        self._order, self._hold = order, hold

    def new_state(self, rows: int) -> ScriptedState:
        """The initial state of `rows` streams."""
        return ScriptedState(self.spec, rows)

    def _step(
        self,
        frames: NDArray[np.uint8],
        active: NDArray[np.bool_],
        fresh: NDArray[np.bool_],
        state: ScriptedState,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        state.steps[fresh] = 0
        played = state.steps // self._hold if self._order == "steps" else read_numbers(frames)
        logits = self.logits[played % len(self.logits)]
        state.steps[active] += 1
        return logits, state.steps >= self.spec.frames

    def close(self) -> None:
        """Nothing to give back."""


def read_numbers(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers [B] that pictures [B, H, W, 3] show: ten vertical bars, the lowest bit first, bright ones are set."""
    _, height, width, _ = frames.shape
    centres = (2 * np.arange(BARS) + 1) * width // (2 * BARS)
    bright = frames[:, height // 2, centres].mean(-1) > 128  # [B, W, 3] -> [B, 10]
    return np.asarray(bright @ (1 << np.arange(BARS)), np.int64)


def each_label_in_turn(labels: int, hold: int = HOLD_STEPS) -> NDArray[np.float32]:
    """The default script, [hold * K, K]: every label for `hold` steps with 0.9."""
    rest = 0.1 / max(1, labels - 1)
    return np.repeat(np.eye(labels, dtype=np.float32) * (0.9 - rest) + rest, hold, axis=0)


def read_script(path: Path) -> ScriptedEngine:
    """The engine of a script file; raises EngineError if it is not one."""
    script = read_json(path, Script, "a script of scores")
    try:
        scores = np.array(script.scores, np.float32)
    except ValueError as error:
        raise EngineError(f"{path}: is not a script of scores: {error}") from error
    if scores.ndim != 2 or scores.shape[1] != len(script.labels) or not np.all((scores >= 0) & (scores <= 1)):
        raise EngineError(
            f"{path}: scores must be rows of {len(script.labels)} numbers from 0 to 1, one for each label"
        )
    spec = EngineSpec(
        name=path.name.removesuffix(".scores.json"), labels=script.labels, height=script.height, width=script.width,
        rate_hz=script.rate_hz, frames=script.frames, mode="stream", fit="stretch", network="scripted", backbone="none",
        channel_width=1.0, states=(), files={},
    )  # fmt: skip
    if wrong := fault_of(spec):
        raise EngineError(f"{path}: is not a script of scores: {wrong}")
    return ScriptedEngine(spec, scores, script.order)
