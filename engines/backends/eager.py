"""Networks in torch, step by step: the reference on a CPU; on a GPU, one CUDA graph a step.

The GPU's way ran on an H200 (docs/measured/performance.md). The tests run it on a CPU, with a stand-in for the graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import Engine, EngineState, Snapshot
from ..errors import EngineError
from ..networks import Network, build_network
from ..networks.folding import fold_batch_norms
from ..networks.stepper import Stepper, make_stepper
from ..networks.tensors import load_content, plain_tensors
from ..spec import EngineSpec

WARM_UP = 3  # plain steps before a recording, in which libraries choose their kernels and allocate
PLAIN = ", without CUDA graphs"

log = logging.getLogger(__name__)

Step = Callable[[], tuple[Tensor, ...]]
"""Static inputs -> the answer, the state after."""


class Graphs(Protocol):
    """How a step is recorded once, without doing it, and replayed from then on."""

    def pin(self, tensor: Tensor) -> Tensor:
        """The same on the host, in memory that the device reaches by itself."""
        ...

    def record(self, step: Step, into: Sequence[Tensor]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """A function that does the step, and the tensors in which it leaves its outputs; of the state it leaves a copy
        in `into`, unless that is empty. Raises RuntimeError for a step that cannot be recorded.
        """
        ...


class CudaGraphs:
    """torch.cuda.CUDAGraph, recorded on a stream of its own while other threads may go on with their steps.

    The graphs of one state share the memory of what is between input and output. Those of two states must not: what one
    has to remember could lie where the other calculates.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()

    def pin(self, tensor: Tensor) -> Tensor:
        """Page-locked memory."""
        return tensor.pin_memory()

    def record(self, step: Step, into: Sequence[Tensor]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """See `Graphs`."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                step()
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                outputs = step()
                for copy, value in zip(into, outputs[1:], strict=False):
                    copy.copy_(value)
        finally:
            torch.cuda.set_stream(current)  # a capture that fails at its end does not leave its stream by itself
        return graph.replay, outputs


class TorchState(EngineState):
    """Tensors on the device, replaced at each step. With graphs there are two banks of them: one graph reads A and
    leaves B behind, the other reads B and writes to A; they take turns.
    """

    def __init__(self, spec: EngineSpec, stepper: Stepper, rows: int) -> None:
        super().__init__(spec, rows)
        self.stepper = stepper
        self.tensors: Sequence[Tensor] = stepper.initial_state(rows)
        frames = torch.zeros(rows, spec.height, spec.width, 3, dtype=torch.uint8)
        self.host = [frames, *torch.zeros(2, rows, dtype=torch.bool)]  # frames, active, fresh
        self.inputs = self.host  # on a GPU, their copies there
        self.answer = torch.zeros(rows, len(spec.labels) + 1)  # on the host: logits, and 1 if they are ready
        self.ways: list[tuple[Callable[[], None], tuple[Tensor, ...]]] = []  # the graphs, the next one first

    def feed(self, device: torch.device, pin: Callable[[Tensor], Tensor]) -> None:
        """Give the device inputs of its own, from memory that it reaches by itself if there is any."""
        self.inputs = [tensor.to(device) for tensor in self.host]
        try:
            *self.host, self.answer = [pin(tensor) for tensor in (*self.host, self.answer)]
        except RuntimeError as error:
            log.info("%s: no memory could be pinned, copies take longer: %s", self.spec.name, error)

    def record(self, graphs: Graphs) -> None:
        """Record the steps. Raises RuntimeError if they cannot be recorded; plain steps go on."""
        _, _, *after = self.stepper(*self.inputs, *self.tensors)
        bank = tuple(torch.zeros_like(value) for value in after)  # laid out as a step leaves them: nothing is converted
        there, outputs = graphs.record(lambda: self.plain_step(bank), into=())
        back, (answer, *_) = graphs.record(lambda: self.plain_step(outputs[1:]), into=bank)
        self.tensors = bank
        self.ways = [(there, outputs), (back, (answer, *bank))]

    def plain_step(self, before: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The inputs and a state -> the answer [B, K + 1], the state after.

        Every state keeps the layout that it began with: a convolution may leave another one, and torch chooses
        its kernels, and so the last digits, by the layout.
        """
        logits, ready, *after = self.stepper(*self.inputs, *before)
        answer = torch.cat([logits, ready.unsqueeze(1).to(logits.dtype)], 1)
        return answer, *(_laid_out(value, like) for value, like in zip(after, before, strict=True))

    def step(self, *arrays: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """frames, active, fresh -> logits, ready."""
        for array, host, device in zip(arrays, self.host, self.inputs, strict=True):
            host.copy_(torch.from_numpy(array))
            device.copy_(host, non_blocking=True)
        if self.ways:
            replay, outputs = self.ways[0]
            replay()
            self.ways.reverse()
        else:
            outputs = self.plain_step(self.tensors)
        answer, *self.tensors = outputs
        self.answer.copy_(answer)
        return self.answer[:, :-1].numpy(), self.answer[:, -1].numpy() > 0

    def snapshot(self) -> Snapshot:
        """A copy of the state, float32 whatever it is on the device."""
        names = (tensor.name for tensor in self.spec.states)
        return {name: value.float().cpu().numpy().copy() for name, value in zip(names, self.tensors, strict=True)}

    @torch.inference_mode()
    def _restore(self, snapshot: Snapshot) -> None:
        for tensor, value in zip(self.spec.states, self.tensors, strict=True):
            value.copy_(torch.from_numpy(snapshot[tensor.name]))


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """The same values in the layout of another tensor."""
    return value if value.stride() == like.stride() else torch.empty_like(like).copy_(value)


class TorchEngine(Engine):
    """A stepper in torch, on "cpu" or "cuda", which records a state's steps when the state is made.

    precision   "fp32", or "fp16": weights, maps and states in half, but for what the network keeps in float32: all up
                to TCM's correlation, GTDNet's attention
    """

    def __init__(
        self, stepper: Stepper, spec: EngineSpec, device: str, precision: str = "fp32", *, graphs: bool = True
    ) -> None:
        if precision not in ("fp32", "fp16"):
            raise EngineError(f"torch computes in fp32 or fp16, not in {precision!r}")
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        super().__init__(spec, "eager", f"torch {torch.__version__}, {name}, {precision}")
        if precision == "fp16":
            stepper.network.half()
        self.stepper = stepper.to(device)
        self.recorder: Callable[[], Graphs] | None = CudaGraphs if device == "cuda" else None
        # a step that sometimes does nothing cannot be recorded
        self.graphs = self.recorder is not None and graphs and spec.hop == 1
        if self.recorder and not self.graphs:
            self.device += PLAIN
        if device == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = False  # it would make float32 about as coarse as fp16

    @torch.inference_mode()
    def new_state(self, rows: int) -> TorchState:
        """The initial state of `rows` streams."""
        state = TorchState(self.spec, self.stepper, rows)
        if self.recorder:
            recorder = self.recorder()
            state.feed(self.stepper.mean.device, recorder.pin)
            if self.graphs:
                try:
                    state.record(recorder)
                except RuntimeError as error:
                    why = str(error).strip().partition("\n")[0]
                    log.warning("%s: its steps cannot be recorded as CUDA graphs and are slow: %s", self.spec.name, why)
                    self.graphs = False
                    self.device += PLAIN
        return state

    @torch.inference_mode()
    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: TorchState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return state.step(frames, active, fresh)

    def close(self) -> None:
        """Give back the weights; again does no harm."""
        self.__dict__.pop("stepper", None)


class EagerEngine(TorchEngine):
    """`NAME.pt` (a plain state dict), on the GPU where torch sees one and else on the CPU.

    On a CPU it is the network as it was trained, the reference of all others.
    """

    def __init__(
        self,
        path: Path,
        spec: EngineSpec,
        threads: int | None = None,
        *,
        precision: str = "fp32",
        device: str | None = None,
        graphs: bool = True,
    ) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if threads:
            torch.set_num_threads(threads)
        network = load_network(path, spec)
        network = for_gpu(network) if device == "cuda" else network
        super().__init__(stepper_of(network, path, spec), spec, device, precision, graphs=graphs)


def stepper_of(network: Network, path: Path, spec: EngineSpec) -> Stepper:
    """The step of a model's network; raises EngineError if its frames or states are not those of the sidecar."""
    try:
        stepper = make_stepper(network, spec.height, spec.width, spec.hop)
        initial = stepper.initial_state(1)
    except (RuntimeError, ValueError) as error:
        told = str(error).partition("\n")[0]
        raise EngineError(f"{path}: cannot step on {spec.width}x{spec.height} frames: {told}") from error
    found = {name: tuple(value.shape[1:]) for name, value in zip(stepper.state_names, initial, strict=True)}
    wanted = {state.name: state.shape for state in spec.states}
    if wanted and list(found.items()) != list(wanted.items()):  # a checkpoint of a training does not tell them
        wrong = next((name for name in {**found, **wanted} if found.get(name) != wanted.get(name)), "their order")
        raise EngineError(f"{path}: its states are not those that its sidecar describes: {wrong} differs")
    return stepper


def load_network(path: Path, spec: EngineSpec) -> Network:
    """The network of a state dict, on the CPU, to be evaluated; raises EngineError if the file is not one of it."""
    tensors = plain_tensors(load_content(path), path)
    try:
        network = build_network(
            spec.network, spec.backbone, spec.frames, len(spec.labels), causal=spec.mode == "stream",
            width=spec.channel_width, **spec.options,
        )  # fmt: skip
        network.load_state_dict(tensors or {})
    except EngineError:
        raise
    except Exception as error:  # torch raises half a dozen types for what does not fit
        told = str(error).partition("\n")[0]
        raise EngineError(f"{path}: is not the state dict of {spec.network} on {spec.backbone}: {told}") from error
    return network.eval()


def for_gpu(network: Network) -> Network:
    """A copy with its batch norms folded into the layers before them, and maps stored channels last, as the
    convolutions of a GPU like them.
    """
    folded = fold_batch_norms(network)
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded
