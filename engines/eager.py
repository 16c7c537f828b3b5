"""The reference engine: the torch network itself, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .base import Engine, EngineState, Snapshot
from .errors import EngineError
from .networks import build_network
from .networks.stepper import Stepper, make_stepper
from .spec import EngineSpec


class EagerState(EngineState):
    """Torch tensors, replaced at each step."""

    def __init__(self, spec: EngineSpec, stepper: Stepper, rows: int) -> None:
        super().__init__(spec, rows)
        self.names = stepper.state_names
        self.tensors = stepper.initial_state(rows)

    def snapshot(self) -> Snapshot:
        """A copy of the state."""
        return {name: value.cpu().numpy().copy() for name, value in zip(self.names, self.tensors, strict=True)}

    def _restore(self, snapshot: Snapshot) -> None:
        device = self.tensors[0].device
        self.tensors = tuple(torch.tensor(snapshot[name], device=device) for name in self.names)


class EagerEngine(Engine):
    """`NAME.pt` (a plain state dict) in torch, float32, on the GPU where torch sees one and else on the CPU."""

    def __init__(self, path: Path, spec: EngineSpec, threads: int | None = None) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(spec, "eager", f"torch {torch.__version__} {device} fp32")
        if threads:
            torch.set_num_threads(threads)
        network = build_network(
            spec.network, spec.backbone, spec.frames, len(spec.labels), causal=spec.mode == "stream",
            width=spec.channel_width, **spec.options,
        )  # fmt: skip
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen types for a file that is not a state dict
            raise EngineError(f"{path}: is not the state dict of {spec.network} on {spec.backbone}: {error}") from error
        self.stepper = make_stepper(network.eval(), spec.height, spec.width, spec.hop).to(device)

    def new_state(self, rows: int) -> EagerState:
        """The initial state of `rows` streams."""
        return EagerState(self.spec, self.stepper, rows)

    @torch.inference_mode()
    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: EagerState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        device = state.tensors[0].device
        inputs = [torch.from_numpy(array).to(device) for array in (frames, active, fresh)]
        logits, ready, *state.tensors = self.stepper(*inputs, *state.tensors)
        return logits.cpu().numpy(), ready.cpu().numpy()

    def close(self) -> None:
        """Give back the memory."""
        del self.stepper
