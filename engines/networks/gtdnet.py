"""GTDNet: channels gated by how each frame differs from the whole clip ("Global Temporal Difference Network for Action
Recognition"), on a TSM-ResNet: in every bottleneck, on the shifted block input, before conv1.

With X [B, T, C, H, W] the shifted input and g its spatial means:

    z      = norm(Linear(g)), C -> c = C / r
    z_m    = aggregate(z over the window)       `avg`, `mta`, `lstm` or `bilstm`
    e_t    = z_m - z_t                          the global temporal difference
    z'_t   = sigmoid(Linear(e_t)) * z_t
    q,k,v  = Linear(z'_t);  A = softmax(q k^T) over k, [c, c];  z'' = A v       attention among channels
    gate_t = sigmoid(Linear(z''_t + z_t)), c -> C
    X      <- X * gate + X

Choices, where the paper's text and figures are silent: r = 8; every Linear has a bias; `mta`'s hidden width 2T; the
LSTMs have one layer of width c, and the two final states of `bilstm` are averaged. With these, `bilstm` on ResNet-50
has 33.3 M parameters for 400 classes; the paper reports 33.9 M. The norm is a choice, too: z is divided by its root
mean square. The means of deep blocks are sums without a bound, and the logits of A are quadratic in them: unscaled they
reach millions in a fresh ResNet-50, where float32 loses the answer and half precision overflows.
Causal form: z_m[t] is the aggregate of the last T frames of the stream up to t: `avg` of those that are there,
`mta` with zeros before the stream; `lstm` is its state after frame t, with no end to its memory; `bilstm` reads the
clip backwards too and has no causal form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import unknown
from .inverted import InvertedNet
from .network import Plan
from .resnet import ResNet, ShiftBottleneck, require_bottlenecks
from .temporal import Reach, State, TemporalShift, named, part, per_frame, windows

REDUCTION = 8


class Aggregator(nn.Module):
    """The vectors of a window -> one, z [B, T, c] -> [B, T, c] in the causal form (each frame has its own window),
    [B, 1, c] in the clip form.
    """

    def __init__(self, frames: int, causal: bool, behind: float) -> None:
        super().__init__()
        self.frames = frames
        self.causal = causal
        self.reach = Reach(behind, 0) if causal else Reach(frames - 1, frames - 1)


class Average(Aggregator):
    """The mean over the window. State of the causal form: `ring` [B, T - 1, c + 1], the last vectors, each with a one
    behind it that tells how many are there.
    """

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:  # noqa: ARG002
        super().__init__(frames, causal, behind=frames - 1)

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        """z [B, T, c] -> [B, T or 1, c], state."""
        if not self.causal:
            return z.mean(1, keepdim=True), {}
        seen, ring = windows(F.pad(z, (0, 1), value=1.0), state.get("ring"), self.frames)
        total = seen.sum(2)  # [B, T, frames, c + 1] -> [B, T, c + 1]
        return total[..., :-1] / total[..., -1:], {"ring": ring}


class Mixing(Aggregator):
    """The paper's `mta`: two linear layers along time, T -> 2T -> 1. State of the causal form: `ring` [B, T - 1, c]."""

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:  # noqa: ARG002
        super().__init__(frames, causal, behind=frames - 1)
        self.mix = nn.Sequential(nn.Linear(frames, 2 * frames), nn.ReLU(), nn.Linear(2 * frames, 1))

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        """z [B, T, c] -> [B, T or 1, c], state."""
        if not self.causal:
            return self.mix(z.transpose(1, 2)).transpose(1, 2), {}  # [B, c, T] -> [B, c, 1] -> [B, 1, c]
        seen, ring = windows(z, state.get("ring"), self.frames)
        return self.mix(seen.transpose(2, 3)).squeeze(3), {"ring": ring}  # [B, T, c, frames] -> [B, T, c]


class Recurrent(Aggregator):
    """An LSTM along time: its final state, of both directions the mean. State of the causal form: `hidden` and `cell`
    [B, c].
    """

    def __init__(self, channels: int, *, frames: int, causal: bool, bidirectional: bool = False) -> None:
        if causal and bidirectional:
            raise ValueError("bilstm reads the clip backwards too and has no causal form; lstm has one")
        super().__init__(frames, causal, behind=inf)
        self.lstm = nn.LSTM(channels, channels, batch_first=True, bidirectional=bidirectional)

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        """z [B, T, c] -> [B, T or 1, c], state."""
        if not self.causal:
            _, (hidden, _) = self.lstm(z)  # [1 or 2, B, c]
            return hidden.mean(0).unsqueeze(1), {}
        nothing = torch.zeros_like(z[:, 0])
        before = tuple(state.get(name, nothing).unsqueeze(0) for name in ("hidden", "cell"))
        y, (hidden, cell) = self.lstm(z, before)
        return y, {"hidden": hidden[0], "cell": cell[0]}


AGGREGATORS: dict[str, Callable[..., Aggregator]] = {
    "avg": Average,
    "mta": Mixing,
    "lstm": Recurrent,
    "bilstm": partial(Recurrent, bidirectional=True),
}


def linear(layer: nn.Linear, z: Tensor) -> Tensor:
    """The layer on z [N, c, 1, 1] as a convolution of 1x1, for which runtimes on a CPU have the better kernel: twice as
    fast at one row.
    """
    return F.conv2d(z, layer.weight[..., None, None], layer.bias)


class GlobalTemporalDifference(nn.Module):
    """The gate of the channels, from their spatial means."""

    def __init__(self, channels: int, aggregator: str, *, frames: int, causal: bool) -> None:
        super().__init__()
        reduced = max(1, channels // REDUCTION)
        self.reduce = nn.Linear(channels, reduced)
        self.aggregate = AGGREGATORS[aggregator](reduced, frames=frames, causal=causal)
        self.select = nn.Linear(reduced, reduced)
        self.query, self.key, self.value = (nn.Linear(reduced, reduced) for _ in range(3))
        self.expand = nn.Linear(reduced, channels)

    def forward(self, means: Tensor, state: State) -> tuple[Tensor, State]:
        """Means [B, T, C, 1, 1] -> gate [B, T, C, 1, 1], state. They keep the axes of maps, and so the layout in which
        a runtime on a CPU has the map that they multiply.
        """
        z = per_frame(self.squeezed, means)  # [B, T, c, 1, 1]
        vectors = z.flatten(2)
        overall, after = self.aggregate(vectors, part(state, "aggregate"))
        return per_frame(self.gate, z, overall.expand_as(vectors)), named(after, "aggregate")

    def squeezed(self, means: Tensor) -> Tensor:
        """Means [N, C, 1, 1] -> z [N, c, 1, 1], of a root mean square of 1."""
        z = linear(self.reduce, means).float()
        return (z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-6)).to(means.dtype)

    def gate(self, z: Tensor, overall: Tensor) -> Tensor:
        """z [N, c, 1, 1], the window's z_m [N, c] -> gate [N, C, 1, 1]."""
        selected = torch.sigmoid(linear(self.select, overall[..., None, None] - z)) * z
        query, key, value = (linear(layer, selected).flatten(1).float() for layer in (self.query, self.key, self.value))
        pairs = query.unsqueeze(2) * key.unsqueeze(1)  # [N, c, c], in float32 for the softmax
        attended = (pairs.softmax(-1) @ value.unsqueeze(2)).unsqueeze(3).to(z.dtype)
        return torch.sigmoid(linear(self.expand, attended + z))


def spatial_mean(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 1, 1]."""
    return x.mean((2, 3), keepdim=True)


def shifted_means(moved: Tensor, x: Tensor) -> Tensor:
    """The spatial means of x [N, C, H, W] with its first channels replaced by `moved` [N, n, H, W], [N, C, 1, 1]. That
    of the difference is taken, for which a runtime has the layout of x: it would keep a state that is summed alone in
    another one, and copy it.
    """
    count, means = moved.shape[1], spatial_mean(x)
    return torch.cat([means[:, :count] + spatial_mean(moved - x[:, :count]), means[:, count:]], 1)


class GatedShift(TemporalShift):
    """The temporal shift, the gate on the shifted map, and the convolution that reads it."""

    def __init__(self, channels: int, aggregator: str, *, frames: int, causal: bool) -> None:
        super().__init__(channels, causal=causal)
        self.gtd = GlobalTemporalDifference(channels, aggregator, frames=frames, causal=causal)
        behind, ahead = self.gtd.aggregate.reach
        self.reach = Reach(self.reach.behind + behind, self.reach.ahead + ahead)

    def forward(self, x: Tensor, state: State, conv: nn.Conv2d) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> conv(gated shift(x)) [B, T, P, H', W'], state."""
        moved, after = self.moved(x, state)
        gate, after_gate = self.gtd(per_frame(shifted_means, moved, x), part(state, "gtd"))
        return self.convolve(conv, x, moved, per_frame(lambda g: 1 + g, gate)), {**after, **named(after_gate, "gtd")}


def check(plan: Plan, aggregator: str) -> None:
    """Raise EngineError or ValueError for what no GTDNet can be made of."""
    if aggregator not in AGGREGATORS:
        raise unknown("aggregator", aggregator, AGGREGATORS)
    if plan.frames < 2:
        raise ValueError(f"GTDNet compares frames with their window and needs at least 2; got {plan.frames}")


class GTDNet(ResNet):
    """A TSM-ResNet with the gate in every bottleneck. `aggregator` is avg, mta, lstm or bilstm."""

    def __init__(self, plan: Plan, aggregator: str = "avg") -> None:
        require_bottlenecks(plan, "GTDNet")
        check(plan, aggregator)

        def make_block(inplanes: int, planes: int, stride: int, _: int) -> ShiftBottleneck:
            shift = GatedShift(inplanes, aggregator, frames=plan.frames, causal=plan.causal)
            return ShiftBottleneck(inplanes, planes, stride, shift)

        super().__init__(plan, make_block)


class LightGTDNet(InvertedNet):
    """TSM on a light backbone with the gate in every block that shifts (choice: the paper has ResNets only)."""

    def __init__(self, plan: Plan, aggregator: str = "avg") -> None:
        check(plan, aggregator)
        super().__init__(
            plan, lambda _, channels: GatedShift(channels, aggregator, frames=plan.frames, causal=plan.causal)
        )
