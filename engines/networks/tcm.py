"""TCM: motion by correlation of feature maps, on a TSM-ResNet (Liu et al., "Motion-driven Visual Tempo Learning for
Video-based Action Recognition", IEEE TIP 2022).

x <- x + TAM(MTDM(x)) once, after layer2, without a ReLU after the addition. On a light backbone, too, it is where the
maps are an eighth of the picture, after their last block (the paper calls the layer plug-and-play; the place is a
choice).

In half precision only what comes behind the correlation is half. Rounding before it makes another of two nearly equal
displacements the strongest in about one place a frame, and now and then an answer hangs on that place; u, v and m vary
little around their means, and the first batch norm behind them makes that some ten times as large.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Plan
from .statistics import OverTime, make_pooling
from .temporal import Reach, Stage, State, named, part, per_frame, scale, started_after
from .tsm import LightTSM, ShiftResNet

REACH = 7  # displacements from -7 to 7 on both axes
PATCH = 2 * REACH + 1
SIGMA = 5.0  # of the gate
SHARPNESS = 100.0  # of the softmax
GRID = 4  # of the statistics


def displacement(earlier: Tensor, later: Tensor) -> Tensor:
    """Gated soft-argmax of the correlation of two maps >= 0, [N, C, H, W] twice -> [N, 3, H, W]: u, v and m.

    The correlation of position p with q = p + (dy, dx) is c(p, q) = sum_c earlier[c, p] * later[c, q]; a patch of
    15 x 15 displacements counts, with zeros outside the image. m is its maximum. A Gaussian (sigma 5) around the
    strongest displacement gates it; u and v, in units of the reach, are the expectations of dx and dy under
    softmax(100 * gated).

    The correlation stays what a matrix product makes of it, pairs of positions, and never becomes patches: a gate
    around the strongest displacement is one around the strongest position, and the expectation of q needs no
    displacement either. It is computed in bands of the reach, each with the rows around it that its patches can touch,
    so that a band's pairs stay in the caches, and of a large map most of those that are too far apart are never made.
    """
    height = earlier.shape[2]
    found = []
    for begin in range(0, height, REACH):
        first = max(0, begin - REACH)
        band, around = earlier[:, :, begin : begin + REACH], later[:, :, first : begin + 2 * REACH]
        found.append(_band(band, around, begin - first))
    return torch.cat(found, 1).transpose(1, 2).unflatten(2, (height, earlier.shape[3]))


def _band(earlier: Tensor, later: Tensor, first: int) -> Tensor:
    """The displacement of some rows [N, C, h, W] to the rows around them [N, C, k, W], of which the `first` is the
    place of the first of theirs -> [N, h * W, 3]: u, v, m.

    Pairs and patches both have zeros that the other lacks: the patch those outside the rows, the pairs those outside
    the patch. Each weighs e^0 in the softmax, and `missing` sets that right.

    Of equally strong positions the first counts. It is found by its row and then by its column, and the gate is made of
    one factor for each: runtimes are slow at the argmax of long rows, and at looking up a gate for each position.
    """
    (count, width), height = earlier.shape[2:], later.shape[2]
    rows, columns = (torch.arange(n, device=earlier.device, dtype=earlier.dtype) for n in (height, width))
    own_rows = torch.arange(count, device=earlier.device, dtype=earlier.dtype) + first
    near = torch.kron(_near(own_rows, rows), _near(columns, columns))  # [h * W, k * W]
    own, places = _places(own_rows, columns), _places(rows, columns)
    missing = PATCH**2 * own - places.sum(0)  # the sums over a whole patch, less those over all pairs

    c = (earlier.flatten(2).transpose(1, 2) @ later.flatten(2) * near).unflatten(2, (height, width))
    row = _first_strongest(c.detach().amax(3))  # [N, h * W, 1]
    in_row = c.gather(2, row.long().unsqueeze(3).expand(-1, -1, -1, width)).squeeze(2)  # [N, h * W, W]
    column = _first_strongest(in_row.detach())
    m = in_row.gather(2, column.long())  # [N, h * W, 1]
    gates = (SHARPNESS * _gate(rows - row)).unsqueeze(3) * _gate(columns - column).unsqueeze(2)
    largest = SHARPNESS * m.detach()  # of gates * c: the gate is 1 there
    weights = torch.exp(gates * c - largest.unsqueeze(3))
    sums = weights.flatten(2) @ places + torch.exp(-largest) * missing  # [N, h * W, 3]: of x, of y, of the weights
    return torch.cat([(sums[..., :2] / sums[..., 2:] - own[:, :2]) / REACH, m], -1)


def _places(rows: Tensor, columns: Tensor) -> Tensor:
    """x, y and 1 of all positions, [H * W, 3]."""
    ones = torch.ones(len(rows), len(columns), device=rows.device, dtype=rows.dtype)
    return torch.stack([columns * ones, rows.unsqueeze(1) * ones, ones], -1).flatten(0, 1)


def _near(own: Tensor, others: Tensor) -> Tensor:
    """1 where places of an axis, [n] and [k], are within the reach of each other, [n, k]."""
    return ((others - own.unsqueeze(1)).abs() <= REACH).to(own.dtype)


def _first_strongest(values: Tensor) -> Tensor:
    """The place of the first of the largest values, [..., n] -> [..., 1], of the values' type."""
    places = torch.arange(values.shape[-1], device=values.device, dtype=values.dtype)
    return torch.where(values == values.amax(-1, keepdim=True), places, values.shape[-1] - 1).amin(-1, keepdim=True)


def _gate(distance: Tensor) -> Tensor:
    """The Gaussian of a distance."""
    return torch.exp(distance**2 / (-2 * SIGMA**2))


class MTDM(nn.Module):
    """Multi-scale temporal dynamics: displacement and confidence at two tempos, [B, T, C, H, W] -> [B, T, 6, H, W].

    Channels: u, v, m of the fast pair, then of the slow pair. Clip form: fast (t, t+1), slow (0, t+1), stored at t;
    the last slot repeats the one before. Causal form: fast (t-1, t), slow (t-T+1, t), stored at t; before T frames
    have come the slow reference is the stream's first frame, and at the first frame both pairs are that frame with
    itself. State of the causal form: `ring` [B, T-1, 64, H, W], the last normalised maps; `started` [B], 1 once a
    frame has come. Everything after the reduction is float32 whatever the precision around it, and so are the answers
    and the state: 100 * s is too coarse in half.
    """

    def __init__(self, channels: int, *, frames: int, causal: bool, reduced: int = 64) -> None:
        super().__init__()
        self.frames = frames
        self.causal = causal
        self.chnl_reduction = nn.Sequential(
            nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.ReLU()
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 6, H, W], state."""
        reduced = per_frame(self.chnl_reduction, x).float()
        device = x.device.type
        mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if mixed else nullcontext():
            maps = per_frame(lambda r: r * torch.rsqrt(r.square().sum(1, keepdim=True) + 1e-6), reduced)
            return self.causal_motion(maps, state) if self.causal else (self.clip_motion(maps), {})

    def clip_motion(self, maps: Tensor) -> Tensor:
        """Normalised maps [B, T, 64, H, W] -> [B, T, 6, H, W]; the last slot repeats the one before."""
        first = torch.cat([maps[:, :1]] * (maps.shape[1] - 1), 1)  # TensorRT 8.6 cannot stack what is only expanded
        motion = two_tempos(maps[:, :-1], first, maps[:, 1:])
        return torch.cat([motion, motion[:, -1:]], 1)

    def causal_motion(self, maps: Tensor, state: State) -> tuple[Tensor, State]:
        """Normalised maps [B, T, 64, H, W], state -> [B, T, 6, H, W], state; the first frame of a stream fills its
        ring.
        """
        length = self.frames - 1
        ring = maps[:, :1].expand(-1, length, -1, -1, -1)
        if state:
            started = state["started"].view(-1, 1, 1, 1, 1) > 0
            ring = torch.where(started, state["ring"], ring)
        seen = torch.cat([ring, maps], 1)  # [B, T - 1 + n, 64, H, W]
        motion = two_tempos(seen[:, length - 1 : -1], seen[:, :-length], maps)
        return motion, {"ring": seen[:, -length:], "started": started_after(maps, state)}


def two_tempos(fast: Tensor, slow: Tensor, now: Tensor) -> Tensor:
    """Motion from the fast and from the slow reference to the present map, each [B, n, 64, H, W] -> [B, n, 6, H, W]."""
    earlier, later = torch.stack([fast, slow], 2), torch.stack([now, now], 2)  # [B, n, 2, 64, H, W]
    motion = displacement(earlier.flatten(0, 2), later.flatten(0, 2))  # [B * n * 2, 3, H, W]
    return motion.unflatten(0, (-1, now.shape[1], 2)).flatten(2, 3)


def conv_bn_relu(inplanes: int, planes: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    """A convolution of stride 1 without bias, its batch norm and ReLU."""
    conv = nn.Conv2d(inplanes, planes, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(planes), nn.ReLU()]


def attention_kernel(frames: int) -> int:
    """The kernel of the attention over time of a clip of T frames: int(log2 T), made odd upwards."""
    kernel = int(math.log2(frames))
    return kernel + 1 - kernel % 2


class TemporalAttention(nn.Module):
    """Efficient channel attention over time (the paper's ETA): w = sigmoid(conv along T of the spatial means), one
    kernel for all channels.

    k is `attention_kernel(T)`. Causal form: without the (k - 1) / 2 taps that look ahead.
    State of the causal form: `means` [B, (k - 1) / 2, C], the last spatial means.
    """

    def __init__(self, *, frames: int, causal: bool) -> None:
        super().__init__()
        kernel = attention_kernel(frames)
        self.reach = kernel // 2
        self.causal = causal
        self.conv = nn.Conv1d(1, 1, kernel, padding=self.reach, bias=False)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the same shape, state."""
        means = per_frame(lambda z: z.mean((2, 3)), x)  # [B, T, C]
        if self.causal:
            before = state["means"] if state else means.new_zeros(means.shape[0], self.reach, means.shape[2])
            seen, weight = torch.cat([before, means], 1), self.conv.weight[..., : self.reach + 1]
            after = {"means": seen[:, -self.reach :]}
        else:
            seen, weight, after = F.pad(means, (0, 0, self.reach, self.reach)), self.conv.weight, {}
        along_time = seen.transpose(1, 2).flatten(0, 1).unsqueeze(1)  # [B * C, 1, reach + T (+ reach)]
        mixed = F.conv1d(along_time, weight).squeeze(1).unflatten(0, (-1, means.shape[2])).transpose(1, 2)
        return per_frame(scale, x, mixed.sigmoid()), after


class TAM(nn.Module):
    """Temporal attention module: motion maps [B, T, 6, H, W] -> attention-weighted features [B, T, C, H, W]. Its conv1,
    which is small, stays in float32 when the rest is made half.
    """

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:
        super().__init__()
        grouped = [layer for _ in range(3) for layer in conv_bn_relu(6, 6, 3, groups=3)]
        self.conv1 = nn.Sequential(*grouped, *conv_bn_relu(6, 16, 1))
        self.conv2 = nn.Sequential(*conv_bn_relu(16, 16, 3, groups=16), *conv_bn_relu(16, 32, 1))
        self.conv3 = nn.Sequential(*conv_bn_relu(32, 32, 3, groups=32), *conv_bn_relu(32, 64, 1))
        self.conv4 = nn.Sequential(*conv_bn_relu(64, 64, 3, groups=64), *conv_bn_relu(64, channels, 1))
        self.eta = TemporalAttention(frames=frames, causal=causal)

    @torch.no_grad()
    def let_through(self) -> None:
        """Let a fresh one pass its motion maps on: at random, its narrow first layers lose the signs of u and v."""
        convs = [layer for layer in self.conv1 if isinstance(layer, nn.Conv2d)][:3]
        norms = [layer for layer in self.conv1 if isinstance(layer, nn.BatchNorm2d)][:3]
        for conv, norm in zip(convs, norms, strict=True):
            conv.weight.normal_(0, 0.05)
            for plane in range(6):
                conv.weight[plane, plane % 2] += 1 / 9  # the mean of its own 3x3 neighbourhood
            norm.bias.fill_(2.0)

    def half(self) -> TAM:
        """All but conv1."""
        for layers in (self.conv2, self.conv3, self.conv4, self.eta):
            layers.half()
        return self

    def forward(self, motion: Tensor, state: State) -> tuple[Tensor, State]:
        """Motion [B, T, 6, H, W] -> [B, T, C, H, W], state."""
        first, rest = (next(layers.parameters()).dtype for layers in (self.conv1, self.conv2))
        x = per_frame(lambda m: self.conv4(self.conv3(self.conv2(self.conv1(m.to(first)).to(rest)))), motion)
        y, after = self.eta(x, part(state, "eta"))
        return y, named(after, "eta")


class TemporalCorrelation(nn.Module):
    """The TCM layer: x + TAM(MTDM(x)), [B, T, C, H, W] -> the same shape."""

    def __init__(self, channels: int, *, frames: int, causal: bool) -> None:
        super().__init__()
        self.mtdm = MTDM(channels, frames=frames, causal=causal)
        self.tam = TAM(channels, frames=frames, causal=causal)
        seen = self.tam.eta.reach  # frames that the attention adds on either side of the motion's own
        self.reach = Reach(frames - 1 + seen, 0) if causal else Reach(frames - 1 + seen, 1 + seen)

    @torch.no_grad()
    def begin_softly(self) -> None:
        """Let a fresh layer add little to maps that others were trained on, so that these still mean what they did."""
        self.tam.let_through()
        *_, norm, _relu = self.tam.conv4
        nn.init.constant_(norm.get_parameter("weight"), 0.1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the same shape, state."""
        motion, after_mtdm = self.mtdm(x, part(state, "mtdm"))
        y, after_tam = self.tam(motion, part(state, "tam"))
        return per_frame(torch.add, x.to(y.dtype), y), named(after_mtdm, "mtdm") | named(after_tam, "tam")


def make_layer(plan: Plan, channels: int) -> TemporalCorrelation:
    """The layer for maps of so many channels. Raises ValueError for clips that are too short for it."""
    if plan.frames < 4:
        raise ValueError(
            f"TCM needs at least 4 frames, below that its attention over time sees no neighbour; got {plan.frames}"
        )
    return TemporalCorrelation(channels, frames=plan.frames, causal=plan.causal)


def half_behind(network: TCM | LightTCM) -> None:
    """Make half what comes behind the correlation, and leave in float32 what comes before it."""
    stages = network.blocks() if isinstance(network, LightTCM) else network.stages()
    names = [name for name, _ in stages]
    behind = (network.get_submodule(name) for name in names[names.index("tcm") + 1 :])
    for module in (network.tcm.tam, *behind, network.fc):
        module.half()


class TCM(ShiftResNet):
    """TSM-ResNet with the TCM layer after layer2; every block shifts, on ResNet-101 too.

    pooling  mean: the paper's head. statistics: instead of layer4, the head reads where layer3's maps were what, and
             how they changed, over the last T frames: `StatisticsPooling` in 4 x 4 cells. Nothing but the head must
             be learned for labels that the weights were not trained on
    span     frames of the TCM layer's memory, where that is not T: what its weights were trained with
    """

    def __init__(self, plan: Plan, pooling: str = "mean", span: int = 0) -> None:
        super().__init__(plan, shift_every=1)
        self.tcm = make_layer(replace(plan, frames=span or plan.frames), self.channels["layer2"])
        self.pooling = make_pooling(pooling, plan, grid=GRID)
        if self.pooling is not None:
            del self.layer4, self.channels["layer4"]
            self.fc = nn.Linear(4 * GRID**2 * self.channels["layer3"], plan.classes)

    def half(self) -> TCM:
        """What comes behind the correlation in float16."""
        half_behind(self)
        return self

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The blocks, with the TCM layer before the first block of layer3."""
        for name, stage in super().stages():
            if name == "layer3.0":
                yield "tcm", self.tcm
            yield name, stage
        if self.pooling is not None:
            yield "pooling", OverTime(self.pooling)


class LightTCM(LightTSM):
    """TSM on a light backbone, with the TCM layer after the last block whose maps are an eighth of the picture. `span`
    as in `TCM`.
    """

    def __init__(self, plan: Plan, shift_from: int = 1, pooling: str = "mean", span: int = 0) -> None:
        super().__init__(plan, shift_from, pooling)
        self.last_before, channels = self.rows[2]
        self.tcm = make_layer(replace(plan, frames=span or plan.frames), channels)

    def half(self) -> LightTCM:
        """What comes behind the correlation in float16."""
        half_behind(self)
        return self

    def blocks(self) -> Iterator[tuple[str, Stage]]:
        """The blocks, with the TCM layer between two of them."""
        for name, stage in super().blocks():
            yield name, stage
            if name == f"features.{self.last_before}":
                yield "tcm", self.tcm
