"""What every temporal op shares: the state as a value, and the helpers that look one frame back.

The law of this package, for every op and every network and any split of x along time:

    whole(x) == concat(chunk(x, state) for chunk in chunks)

An op is a module with `forward(x, state) -> (y, state)`: x is [B, T, ...] with T >= 1, `state` maps names to tensors
whose first axis is B. An absent entry is the initial state, which is all zeros. Modules hold weights only. The clip
form of an op sees the whole clip, zero outside it, and has no state; the causal form is the same op without the taps
that look ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
"""Names (module paths, "layer1.0.shift") to tensors [B, ...]."""


class Reach(NamedTuple):
    """How many frames before and after itself an output frame can depend on; `inf` for a memory without an end."""

    behind: float
    ahead: float


ITSELF = Reach(0, 0)


class Stage(Protocol):
    """A part of a network between stem and head: one block, or one layer with memory."""

    @property
    def reach(self) -> Reach:
        """What a frame of the output depends on."""
        ...

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W], state -> [B, T, P, H', W'], state."""
        ...


def part(state: State, name: str) -> dict[str, Tensor]:
    """The entries of the submodule `name`, by their names inside it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def named(state: State, name: str) -> dict[str, Tensor]:
    """The opposite of `part`: the same entries by their names outside the submodule."""
    return {f"{name}.{key}": value for key, value in state.items()}


def per_frame(f: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """Apply a 2-D function to every frame: each of x and `others` [B, T, ...] -> [B * T, ...] -> f -> [B, T, ...].

    Whatever needs no time is done in here, the elementwise too: a runtime on a CPU keeps maps of four axes in the
    layout of its convolutions, and would copy them for each operation on five.
    """
    y = f(*(value.flatten(0, 1) for value in (x, *others)))
    return y.view(-1, x.shape[1], *y.shape[1:])


def delay(x: Tensor, last: Tensor | None) -> Tensor:
    """x one frame later, [B, T, ...]: `last` [B, ...] (zeros if None) stands before the first frame, the newest frame
    falls out.
    """
    first = torch.zeros_like(x[:, :1]) if last is None else last.unsqueeze(1)
    return first if x.shape[1] == 1 else torch.cat([first, x[:, :-1]], 1)


def newest(x: Tensor) -> Tensor:
    """The last frame, [B, T, ...] -> [B, ...]. That of one is told apart: as a reshape it costs a runtime no copy."""
    return x.squeeze(1) if x.shape[1] == 1 else x[:, -1]


def advance(x: Tensor) -> Tensor:
    """x one frame earlier, [B, T, ...]: the oldest frame falls out, zeros stand after the newest."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)


def windows(x: Tensor, before: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """The last `length` entries up to each frame: x [B, T, ...] -> [B, T, length, ...], oldest first, and the ring that
    the next call takes as `before` [B, length - 1, ...] (zeros if None).
    """
    if before is None:
        before = x.new_zeros(x.shape[0], length - 1, *x.shape[2:])
    count, seen = x.shape[1], torch.cat([before, x], 1)
    return torch.stack([seen[:, t : t + length] for t in range(count)], 1), seen[:, count:]


def started_after(x: Tensor, state: State) -> Tensor:
    """The entry `started` [B] of a state after x [B, ...]: 1. Where there is one already it is made of that one: the
    runtime of the step graph must not find a constant, for which it would not write.
    """
    return state["started"].clamp(min=1) if state else torch.ones_like(x.flatten(1)[:, 0])


def gated(x: Tensor, *gates: Tensor) -> Tensor:
    """Each channel of x [N, C, H, W] times its gates, each [N, C, 1, 1]."""
    for gate in gates:
        x = x * gate
    return x


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """Each channel of x [N, C, H, W] times its factor [N, C]."""
    return gated(x, factor[..., None, None])


class NoShift(nn.Module):
    """TSN's place for a shift: the convolution alone, no time, no state."""

    reach = ITSELF

    def forward(self, x: Tensor, state: State, conv: nn.Conv2d) -> tuple[Tensor, State]:  # noqa: ARG002
        """x [B, T, C, H, W] -> conv(x), {}."""
        return per_frame(conv, x), {}


class TemporalShift(nn.Module):
    """Temporal shift (Lin et al., TSM, ICCV 2019, section 3), together with the convolution that reads the shifted map.

    Clip form: of the first C // 8 channels each frame takes the next frame's, of the second C // 8 the previous
    frame's. Causal form (online TSM): of the first C // 8 channels each frame takes the previous frame's. State:
    `last` [B, C // 8, H, W], those channels of the last frame.

    The shifted map is not built. A convolution is linear, so with s the shifted part and x[:n] what it replaces,
    conv(cat(s, x[n:])) = conv(x) + conv_of_the_first_n_channels(s - x[:n]): exact, and no copy of the full map. Only in
    the clip form, where twice as many channels move, a copy is cheaper than a second convolution of 3x3.
    """

    def __init__(self, channels: int, *, causal: bool) -> None:
        super().__init__()
        self.fold = channels // 8
        self.causal = causal
        self.reach = Reach(1, 0) if causal else Reach(1, 1)

    def forward(self, x: Tensor, state: State, conv: nn.Conv2d) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> conv(shift(x)) [B, T, P, H', W'], state."""
        moved, after = self.moved(x, state)
        return self.convolve(conv, x, moved), after

    def moved(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the first n channels of shift(x), those that come from other frames, and the state."""
        if self.causal:
            part_of_x = per_frame(lambda z: z[:, : self.fold], x)
            return delay(part_of_x, state.get("last")), {"last": newest(part_of_x)}
        ahead, behind = per_frame(lambda z: z[:, : 2 * self.fold], x).split(self.fold, 2)
        return torch.cat([advance(ahead), delay(behind, None)], 2), {}

    def convolve(self, conv: nn.Conv2d, x: Tensor, moved: Tensor, *gates: Tensor) -> Tensor:
        """conv(x with its first n channels replaced by `moved` [B, T, n, H, W]); gates [B, T, C, 1, 1], if there are
        any, multiply the shifted map's channels.
        """
        count = moved.shape[2]
        if not self.causal and conv.kernel_size != (1, 1):
            return per_frame(lambda z, *g: conv(gated(z, *g)), torch.cat([moved, x[:, :, count:]], 2), *gates)
        weight = conv.weight[:, :count]

        def conv_of_shifted(z: Tensor, moved: Tensor, *gates: Tensor) -> Tensor:
            difference = gated(moved - z[:, :count], *(gate[:, :count] for gate in gates))
            return conv(gated(z, *gates)) + nn.functional.conv2d(difference, weight, None, conv.stride, conv.padding)

        return per_frame(conv_of_shifted, x, moved, *gates)
