"""The seam between the pipeline and whatever runs a network: `spec`, `new_state`, `step`, `close`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError
from .spec import EngineSpec

Snapshot = dict[str, NDArray[Any]]
"""The state by name, each [rows, ...], on the host."""


class EngineState(ABC):
    """The memory of `rows` independent streams, on the device that runs the network. The only mutable handle of this
    package.
    """

    def __init__(self, spec: EngineSpec, rows: int) -> None:
        self.spec = spec
        self.rows = rows

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of the state."""

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the state by a snapshot of the same model and row count; raises EngineError if it is of another."""
        expected = {tensor.name: (self.rows, *tensor.shape) for tensor in self.spec.states}
        found = {name: value.shape for name, value in snapshot.items()}
        if found != expected:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise EngineError(
                f"this snapshot is not of {self.spec.version} with {self.rows} rows: "
                f"{wrong[0]} differs ({len(wrong)} in all)"
            )
        self._restore(snapshot)

    @abstractmethod
    def _restore(self, snapshot: Snapshot) -> None: ...


class Engine(ABC):
    """A network on a device. Not for use from several threads at a time, but one may make a new state while another
    steps.
    """

    def __init__(self, spec: EngineSpec, backend: str, device: str) -> None:
        self.spec = spec
        self.backend = backend
        self.device = device
        self.why = ""  # why this backend was taken, where nobody named one
        self.together: int | None = None  # so many rows in a row are computed at once, if one is active; None: all

    @abstractmethod
    def new_state(self, rows: int) -> EngineState:
        """The initial state of `rows` streams (at least 1)."""

    def step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: EngineState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """One frame of every active row.

        frames uint8 [B, H, W, 3] BGR, active bool [B], fresh bool [B] (start this row anew, before its frame), state
        of B rows -> logits float32 [B, K], ready bool [B]; both may be overwritten by the next step. A row that is
        not active keeps its state, and its logits mean nothing. Raises EngineError for another shape or type.
        """
        rows, spec = state.rows, self.spec
        wanted = (
            ("frames", frames, (rows, spec.height, spec.width, 3), np.uint8),
            ("active", active, (rows,), np.bool_),
            ("fresh", fresh, (rows,), np.bool_),
        )
        for name, array, shape, dtype in wanted:
            if array.shape != shape or array.dtype != dtype:
                raise EngineError(
                    f"step: {name} is {array.dtype} {list(array.shape)}, "
                    f"but {spec.name} takes {np.dtype(dtype)} {list(shape)}"
                )
        return self._step(frames, active, fresh, state)

    @abstractmethod
    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...

    @abstractmethod
    def close(self) -> None:
        """Give back the device's memory. The engine and its states are unusable afterwards."""


def probabilities(logits: NDArray[np.float32], unknown: float | None = None) -> NDArray[np.float32]:
    """Softmax along the last axis: logits [..., K] -> float32 [..., K].

    unknown: the logit of one more class, nothing that the model knows. Its share is left out, so that the others sum to
    sigmoid(energy - unknown), where the energy is the log of the sum of exp(logits): what Liu et al., "Energy-based
    Out-of-distribution Detection" (NeurIPS 2020), compare with a threshold.
    """
    rest = -np.inf if unknown is None else unknown
    most = np.maximum(logits.max(-1, keepdims=True), rest)
    e = np.exp(logits - most)
    return np.asarray(e / (e.sum(-1, keepdims=True) + np.exp(rest - most)), np.float32)
