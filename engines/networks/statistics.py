"""Statistics pooling over time: what a stream's last frames show on average and how much it varied (the mean and the
standard deviation of x-vectors, Snyder et al., ICASSP 2018), for the maps of several depths and for what changed in
them since the frame before (the difference of neighbouring maps as in STM and TDN, Wang et al., CVPR 2021; choice:
without weights of its own).

For each depth with maps x[t], [C, H, W]:

    p[t] = mean over places of x[t]                        what is seen
    d[t] = mean over places of |x[t] - x[t - 1]|           what changed, 0 at the first frame
    y[t] = (mean, deviation) of (p, d) over the last T frames up to t

The means over places are those over all of them, or over the cells of a grid, so that y tells where.

With motion, h[t], the histograms of how the picture moved (see `matching`), stands beside p and d, and the trend of p
and h does beside mean and deviation: the mean of p times a ramp from -1 at the oldest frame to 1 at the newest, by
which what comes first and what comes later differ (sitting down, standing up).

Nothing here is learned, so that a linear layer behind it can be, in a closed form's time, from features that are
computed once. Clip form: mean and deviation over the whole clip, alike for each of its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import unknown
from .matching import MotionHistograms
from .network import Plan
from .temporal import Reach, Stage, State, delay, named, newest, part, per_frame, started_after, windows

MOTION = 3.0  # choice, on held-out clips of J-HMDB's training halves: what an entry that tells of motion counts


def cells(x: Tensor, grid: int) -> Tensor:
    """Maps [N, C, H, W] -> [N, C * grid^2], the means of grid x grid cells, which overlap where H or W is no multiple.

    Two matrix products, because runtimes know no pooling into uneven cells.
    """
    if grid == 1:
        return x.mean((2, 3))
    rows, columns = (_shares(size, grid).to(x) for size in x.shape[-2:])  # [grid, H], [grid, W]
    return (rows @ x @ columns.T).flatten(1)


def _shares(size: int, grid: int) -> Tensor:
    """What each of `grid` cells takes of each of `size` places, [grid, size]."""
    begin = torch.arange(grid) * size // grid
    end = (torch.arange(1, grid + 1) * size + grid - 1) // grid
    place = torch.arange(size)
    inside = (place >= begin.unsqueeze(1)) & (place < end.unsqueeze(1))
    return inside / (end - begin).unsqueeze(1)


class StatisticsPooling(nn.Module):
    """Maps of one depth or of several -> [B, T, D]. D is 4 * grid^2 times the sum C of their channels; with motion 5 C,
    and three times the size of the histograms.

    State of the causal form: `last.I` [B, C, H, W], the newest map of depth I; `started` [B], 1 once a frame has come;
    `ring` [B, T - 1, ...], the last p, h and d, each with a one behind it that tells how many are there; with motion
    `motion.*`, that of `MotionHistograms`.
    """

    def __init__(self, *, frames: int, causal: bool, grid: int = 1, motion: bool = False) -> None:
        super().__init__()
        self.frames = frames
        self.grid = grid
        self.causal = causal
        self.motion = MotionHistograms(causal=causal) if motion else None
        self.reach = Reach(frames, 0) if causal else Reach(frames - 1, frames - 1)

    def emphasis(self, channels: int) -> Tensor:
        """For maps of so many channels [D]: what an entry of y shall count, see `Network`."""
        seen = [torch.ones(channels)]
        if self.motion is None:
            return torch.cat(4 * seen)
        histograms = [torch.full((self.motion.size,), MOTION)]
        return torch.cat([*seen, *histograms, *seen, *seen, *histograms, *seen, *seen, *histograms])

    def forward(self, maps: list[Tensor], state: State, grey: Tensor | None = None) -> tuple[Tensor, State]:
        """Maps, each [B, T, C, H, W], with motion also grey pictures [B, T, 1, H, W], state -> [B, T, D], state."""
        after: dict[str, Tensor] = {}
        seen, changes = [], []
        for depth, x in enumerate(maps):
            before = delay(x, state.get(f"last.{depth}"))
            change = per_frame(lambda z, last: cells((z - last).abs(), self.grid), x, before)
            seen.append(per_frame(lambda z: cells(z, self.grid), x))
            changes.append(self._without_the_first(change, state))
            after[f"last.{depth}"] = newest(x)
        if self.motion is not None and grey is not None:
            moved, moved_after = self.motion(grey, part(state, "motion"))
            seen.append(moved)
            after |= named(moved_after, "motion")
        vectors = torch.cat([*seen, *changes], 2)
        ramped = sum(x.shape[2] for x in seen) if self.motion is not None else 0
        if not self.causal:
            y = _moments(vectors.unsqueeze(1), torch.ones_like(vectors[:, None, :, :1]), ramped)
            return y.expand(-1, vectors.shape[1], -1), {}
        window, ring = windows(F.pad(vectors, (0, 1), value=1.0), state.get("ring"), self.frames)
        y = _moments(window[..., :-1], window[..., -1:], ramped)
        return y, after | {"started": started_after(vectors[:, 0], state), "ring": ring}

    @staticmethod
    def _without_the_first(change: Tensor, state: State) -> Tensor:
        """The changes [B, T, C], with 0 where there was no frame before."""
        started = state["started"].view(-1, 1, 1) if state else torch.zeros_like(change[:, :1, :1])
        first = change[:, :1] * started
        return first if change.shape[1] == 1 else torch.cat([first, change[:, 1:]], 1)


def make_pooling(
    name: str, plan: Plan, grid: int = 1, known: tuple[str, ...] = ("mean", "statistics")
) -> StatisticsPooling | None:
    """The statistics of a plan's T frames; None for the mean over places of the newest. EngineError for one that is not
    `known`.
    """
    if name not in known:
        raise unknown("pooling", name, known)
    if name == "mean":
        return None
    return StatisticsPooling(frames=plan.frames, causal=plan.causal, grid=grid, motion=name == "motion")


def _moments(window: Tensor, there: Tensor, ramped: int) -> Tensor:
    """Windows [B, T, L, D] and which of their entries are there, the last ones, [B, T, L, 1] -> mean, deviation, and
    the trend of the first `ramped`, [B, T, 2 * D + ramped].
    """
    count = there.sum(2)
    mean = (window * there).sum(2) / count
    variance = ((window - mean.unsqueeze(2)).square() * there).sum(2) / count
    found = [mean, torch.sqrt(variance + 1e-6)]
    if ramped:
        length = window.shape[2]
        steps = torch.arange(length, device=window.device, dtype=window.dtype).view(1, 1, -1, 1)
        ago = length - 1 - steps  # frames
        ramp = there * (1 - 2 * ago / (count.unsqueeze(2) - 1).clamp(min=1))
        ramp = ramp * (count.unsqueeze(2) > 1)  # of one frame there is none
        found.append((window[..., :ramped] * ramp).sum(2) / count)
    return torch.cat(found, 2)


@dataclass(frozen=True)
class Pooled:
    """Stages, one after the other, as one stage: the statistics of what leaves each group of them, as a map of one
    place. With motion the last channel of what comes in is the grey picture. The stages' states are called as they.
    """

    groups: tuple[tuple[tuple[str, Stage], ...], ...]
    pooling: StatisticsPooling

    @property
    def reach(self) -> Reach:
        """That of the statistics and of the stages together."""
        reaches = [self.pooling.reach, *(stage.reach for group in self.groups for _, stage in group)]
        return Reach(sum(reach.behind for reach in reaches), sum(reach.ahead for reach in reaches))

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, D, 1, 1], state."""
        maps, grey = [], None
        after: dict[str, Tensor] = {}
        if self.pooling.motion is not None:
            x, grey = per_frame(lambda z: z[:, :-1], x), per_frame(lambda z: F.avg_pool2d(z[:, -1:], 2), x)
        for group in self.groups:
            for name, stage in group:
                x, stage_after = stage(x, part(state, name))
                after |= named(stage_after, name)
            maps.append(x)
        own = {name: value for name, value in state.items() if name not in after}
        y, pooled_after = self.pooling(maps, own, grey)
        return y[..., None, None], after | dict(pooled_after)


@dataclass(frozen=True)
class OverTime:
    """The statistics of the maps that come in, as a stage: a map of one place."""

    pooling: StatisticsPooling

    @property
    def reach(self) -> Reach:
        """That of the statistics."""
        return self.pooling.reach

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, D, 1, 1], state."""
        y, after = self.pooling([x], state)
        return y[..., None, None], after
