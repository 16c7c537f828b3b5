"""The wrappers that are exported: one step of many streams, from camera bytes to logits, the state in the signature.

frames uint8 [B, H, W, 3] (BGR), active bool [B], fresh bool [B], state... -> logits [B, K], ready bool [B], state...

A network in causal form runs as a stream, one in clip form as a window; whoever calls a step cannot tell which.
"""

from __future__ import annotations

from itertools import takewhile

import torch
from torch import Tensor, nn

from ..errors import EngineError
from .network import MEAN, STD, Network
from .temporal import ITSELF, State

SEEN = "seen"


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row, `yes` where mask [B] holds, else `no` [B, ...]. A selection, so that NaN in one never reaches the
    other.
    """
    return torch.where(mask.view(-1, *[1] * (no.dim() - 1)), yes, no)


class Stepper(nn.Module):
    """What both modes share: preprocessing, the masks, and when an answer is ready.

    `fresh` rows start from the initial state; rows that are not `active` keep their state bit for bit (their logits
    mean nothing). `ready` holds at a row's T-th frame and at every `hop`-th frame after it. The state `seen` [B]
    counts a row's frames up to T, and from there round and round the hop.
    """

    mean: Tensor
    std: Tensor
    state_names: tuple[str, ...]

    def __init__(self, network: Network, height: int, width: int, hop: int = 1) -> None:
        super().__init__()
        self.network = network
        self.height, self.width = height, width
        self.hop = hop
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the first layers. Frames are normalised and answers given in float32 whatever it is."""
        return next(self.network.parameters()).dtype

    def initial_memory(self, rows: int) -> dict[str, Tensor]:
        """The state but for `seen`: zeros by name."""
        raise NotImplementedError

    def look(self, frame: Tensor, memory: State, due: Tensor) -> tuple[Tensor, State]:
        """Frame [B, 3, H, W] (normalised RGB), memory, rows whose answer is due [B] -> logits [B, K], memory."""
        raise NotImplementedError

    def initial_state(self, rows: int) -> tuple[Tensor, ...]:
        """All zeros, in the order of `state_names`; in the network's types, but for `seen`, which counts."""
        return (*self.initial_memory(rows).values(), self.mean.new_zeros(rows))

    def forward(self, frames: Tensor, active: Tensor, fresh: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step; the order of the state is `state_names`."""
        before = [choose(fresh, value.new_zeros(()), value) for value in state]
        rgb = frames.to(self.mean.dtype).permute(0, 3, 1, 2).flip(1)  # [B, H, W, BGR] -> [B, RGB, H, W]
        frame = ((rgb - self.mean) / self.std).to(self.dtype)
        first = self.network.frames
        seen = torch.where(before[-1] < first + self.hop - 1, before[-1] + 1, first)
        memory = dict(zip(self.state_names[:-1], before[:-1], strict=True))
        logits, after = self.look(frame, memory, active & (seen == first))
        kept = [choose(active, new, old) for new, old in zip((*after.values(), seen), state, strict=True)]
        return logits.to(self.mean.dtype), kept[-1] == first, *kept


class StreamStepper(Stepper):
    """A causal network as one step of B independent streams, the cost of one frame whatever T is.

    The logits are the newest frame's own, not a mean over the window: that would answer late, and the events are
    smoothed in time anyway.
    """

    def __init__(self, network: Network, height: int, width: int) -> None:
        if not network.causal:
            raise ValueError("a stream needs the causal form of the network (causal=True)")
        super().__init__(network, height, width)
        self.state_names = (*self.initial_memory(1), SEEN)

    def initial_memory(self, rows: int) -> dict[str, Tensor]:
        """The network's own state."""
        return self.network.initial_state(rows, self.height, self.width)

    def look(self, frame: Tensor, memory: State, due: Tensor) -> tuple[Tensor, State]:  # noqa: ARG002
        """The newest frame's logits."""
        logits, after = self.network(frame.unsqueeze(1), memory)
        return logits[:, 0], after


class WindowStepper(Stepper):
    """A network in clip form over the last T frames of each of B streams: what its paper computes, at every window.

    The logits are the mean over the window's frames (TSN's consensus). State: `window` [B, T, C, H', W'], oldest
    first, the maps before the first stage that looks at more than one frame; what follows is computed again for each
    window. With `hop` n > 1 it is computed only in steps in which a row is due, by a conditional in the graph:
    rows that are out of step share less of the saving.
    """

    def __init__(self, network: Network, height: int, width: int, hop: int = 1) -> None:
        if network.causal:
            raise ValueError("a window needs the clip form of the network (causal=False)")
        super().__init__(network, height, width, hop)
        stages = [stage for _, stage in network.stages()]
        self.alone = tuple(takewhile(lambda stage: stage.reach == ITSELF, stages))
        self.together = stages[len(self.alone) :]
        self.state_names = ("window", SEEN)

    @torch.no_grad()
    def initial_memory(self, rows: int) -> dict[str, Tensor]:
        """An empty window."""
        maps = self.features(self.mean.new_zeros(1, 3, self.height, self.width, dtype=self.dtype))
        return {"window": maps.new_zeros(rows, self.network.frames, *maps.shape[1:])}

    def features(self, frame: Tensor) -> Tensor:
        """Frame [B, 3, H, W] -> the maps that are kept of it, [B, C, H', W']."""
        x = self.network.stem(frame).unsqueeze(1)
        for stage in self.alone:
            x, _ = stage(x, {})
        return x.squeeze(1)

    def answer(self, window: Tensor) -> Tensor:
        """Window [B, T, C, H', W'] -> logits [B, K]."""
        for stage in self.together:
            window, _ = stage(window, {})
        return self.network.head(window).mean(1)

    def no_answer(self, window: Tensor) -> Tensor:
        """Zeros in the shape of an answer."""
        return window.new_zeros(window.shape[0], self.network.fc.out_features, dtype=self.network.fc.weight.dtype)

    def look(self, frame: Tensor, memory: State, due: Tensor) -> tuple[Tensor, State]:
        """The window moves on by a frame; its logits, or zeros where no row is due."""
        window = torch.cat([memory["window"][:, 1:], self.features(frame).unsqueeze(1)], 1)
        if self.hop == 1:
            return self.answer(window), {"window": window}
        logits = torch.ops.higher_order.cond(due.any(), self.answer, self.no_answer, (window,))
        return logits, {"window": window}


def make_stepper(network: Network, height: int, width: int, hop: int = 1) -> Stepper:
    """The stepper of a network's form: a stream for the causal one, a window for the clip form.

    Raises EngineError for a hop that is below 1, or of a stream.
    """
    if hop < 1:
        raise EngineError(f"hop is the number of frames from one evaluation to the next, 1 or more, not {hop}")
    if not network.causal:
        return WindowStepper(network, height, width, hop)
    if hop > 1:
        raise EngineError(f"hop {hop}: a stream answers at every frame; only windows can skip some")
    return StreamStepper(network, height, width)
