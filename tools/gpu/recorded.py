"""A run of the reference, written down: what went in and what came out, so that an engine can be compared with it on a
machine, or in a Python, that has no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineSpec, EngineState
from engines.base import Snapshot
from tools.errors import ToolError

FIELDS = ("frames", "active", "fresh", "logits", "ready")


class Recording(Engine):
    """The reference; `save` writes all that its states were asked and answered."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner.spec, inner.backend, inner.device)
        self._inner = inner
        self.runs: list[RecordingState] = []

    def new_state(self, rows: int) -> RecordingState:
        """A state of the reference that is written down."""
        self.runs.append(RecordingState(self._inner.new_state(rows)))
        return self.runs[-1]

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: RecordingState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        answer = self._inner.step(frames, active, fresh, state.inner)
        for name, value in zip(FIELDS, (frames, active, fresh, *answer), strict=True):
            state.steps[name].append(np.array(value))
        return answer

    def save(self, folder: Path) -> None:
        """One file a state, `rows1.npz`, about 40 kB a step of one row; and what the reference is."""
        folder.mkdir(parents=True, exist_ok=True)
        for run in self.runs:
            arrays = {name: np.stack(values) for name, values in run.steps.items()}
            for step, snapshot in run.snapshots.items():
                arrays |= {f"{step}/{name}": value for name, value in snapshot.items()}
            with (folder / f"rows{run.rows}.npz").open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        (folder / "reference").write_text(self.device)

    def close(self) -> None:
        """Close the reference."""
        self._inner.close()


class RecordingState(EngineState):
    """A state of the reference, and its steps so far."""

    def __init__(self, inner: EngineState) -> None:
        super().__init__(inner.spec, inner.rows)
        self.inner = inner
        self.steps: dict[str, list[NDArray[Any]]] = {name: [] for name in FIELDS}
        self.snapshots: dict[int, Snapshot] = {}

    def snapshot(self) -> Snapshot:
        """The reference's; it is written down."""
        self.snapshots[len(self.steps["logits"])] = found = self.inner.snapshot()
        return found

    def _restore(self, snapshot: Snapshot) -> None:
        self.inner.restore(snapshot)


class Recorded(Engine):
    """A reference that ran elsewhere: answers, in their order, what it answered to the very same frames."""

    def __init__(self, folder: Path, spec: EngineSpec) -> None:
        try:
            device = (folder / "reference").read_text()
        except OSError as error:
            raise ToolError(f"{folder}: holds no recorded run ({error.strerror}); --record writes one") from error
        super().__init__(spec, "eager", device)
        self._folder = folder

    def rows(self) -> tuple[int, ...]:
        """Of the runs that are there."""
        return tuple(sorted(int(path.stem.removeprefix("rows")) for path in self._folder.glob("rows*.npz")))

    def new_state(self, rows: int) -> RecordedState:
        """The run of so many rows, from its beginning."""
        return RecordedState(self.spec, rows, np.load(self._folder / f"rows{rows}.npz"))

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: RecordedState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        step, run = state.step, state.run
        if step == len(run["logits"]):
            raise ToolError(f"{self._folder}: the recorded run has {step} steps; compare fewer")
        asked = zip(("frames", "active", "fresh"), (frames, active, fresh), strict=True)
        if not all(np.array_equal(run[name][step], value) for name, value in asked):
            raise ToolError(f"{self._folder}: the recorded run saw other frames; record it with this version")
        state.step += 1
        return run["logits"][step], run["ready"][step]

    def close(self) -> None:
        """Nothing is held."""


class RecordedState(EngineState):
    """How far a recorded run was replayed."""

    def __init__(self, spec: EngineSpec, rows: int, run: Any) -> None:
        super().__init__(spec, rows)
        self.run = {name: run[name] for name in run.files}
        self.step = 0

    def snapshot(self) -> Snapshot:
        """The one that was taken at this step."""
        head = f"{self.step}/"
        return {name.removeprefix(head): value for name, value in self.run.items() if name.startswith(head)}

    def _restore(self, snapshot: Snapshot) -> None:  # noqa: ARG002
        raise ToolError("a recorded run cannot be changed")


def noise(height: int, width: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Frames [H, W, 3] without end: coarse noise that drifts, cut to another now and then. Needs numpy only."""
    rng = np.random.default_rng(seed)
    while True:
        coarse = rng.integers(0, 256, (height // 4 + 3, width // 4 + 3, 3), np.uint8)
        picture = np.ascontiguousarray(coarse.repeat(4, 0).repeat(4, 1))
        across, down = (int(value) for value in rng.integers(-3, 4, 2))
        for n in range(int(rng.integers(4, 48))):
            yield np.roll(picture, (n * down, n * across), (0, 1))[:height, :width]
