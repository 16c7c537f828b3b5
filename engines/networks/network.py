"""The frame that all networks share: a per-frame stem, named stages with memory, a per-frame head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .temporal import Reach, Stage, State, named, part, per_frame

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in [0, 1]


def pooled(x: Tensor) -> Tensor:
    """The means over places: [B, T, C, H, W] -> [B, T, C]."""
    return per_frame(lambda z: z.mean((2, 3)), x)


@dataclass(frozen=True)
class Plan:
    """What every network is told, whatever its paper: see `build_network`."""

    backbone: str
    frames: int
    classes: int
    causal: bool
    width: float = 1.0
    dropout: float = 0.5


class Network(nn.Module):
    """A video network: clip [B, T, 3, H, W] -> one row of logits for each frame, [B, T, K].

    Subclasses give `stem` (one frame, no memory), `stages()` (in order, each `(x, state) -> (y, state)`) and `fc`.
    The clip's score is the mean of its frames' logits (TSN's average consensus, Wang et al., ECCV 2016). In the
    causal form frame t sees frames up to t only, so that its logits are what a stream gets at that moment.

    frames    T, the length of a clip; a stream's answers count from its T-th frame on
    emphasis  [D] or one number: how much an entry of `vectors` shall count beside others of the same deviation, where
             the last layer alone is learned
    """

    fc: nn.Linear
    emphasis: Tensor | float = 1.0

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.frames = plan.frames
        self.causal = plan.causal
        self.backbone = plan.backbone
        self.dropout = nn.Dropout(plan.dropout)

    def stem(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C, H', W'], without memory."""
        raise NotImplementedError

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """The stages after the stem, in order, by their module paths."""
        raise NotImplementedError

    @property
    def reach(self) -> Reach:
        """The frames before and after itself that a frame's logits can depend on (in the clip form, inside its clip).

        A causal network looks `ahead` 0 frames, and remembers `behind` + 1 frames, the present one included.
        """
        behind, ahead = map(sum, zip(*(stage.reach for _, stage in self.stages()), strict=True))
        return Reach(behind, ahead) if self.causal else Reach(min(behind, self.frames - 1), min(ahead, self.frames - 1))

    def forward(self, clip: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Clip [B, T, 3, H, W] (RGB, ImageNet-normalised), state -> logits [B, T, K], state.

        An empty state is the initial one.
        """
        vectors, after = self.vectors(clip, state)
        return self.fc(self.dropout(vectors)), after

    def vectors(self, clip: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """What the last layer reads: clip [B, T, 3, H, W], state -> [B, T, D], state."""
        x = per_frame(self.stem, clip)
        after: dict[str, Tensor] = {}
        for name, stage in self.stages():
            x, stage_after = stage(x, part(state, name))
            after |= named(stage_after, name)
        return pooled(x), after

    def head(self, x: Tensor) -> Tensor:
        """The last stage's maps [B, T, C, H, W] -> logits [B, T, K]."""
        return self.fc(self.dropout(pooled(x)))

    def frame_logits(self, clip: Tensor) -> Tensor:
        """Clip [B, T, 3, H, W] (RGB, ImageNet-normalised), from the initial state -> logits [B, T, K]."""
        return self(clip, {})[0]

    @torch.no_grad()
    def initial_state(self, rows: int, height: int, width: int) -> dict[str, Tensor]:
        """Zeros of the shapes that the ops themselves return for one frame; empty for a clip network."""
        if not self.causal:
            return {}
        training = self.training
        self.eval()
        reference = next(self.parameters())
        _, after = self(reference.new_zeros(1, 1, 3, height, width), {})
        self.train(training)
        return {name: value.new_zeros(rows, *value.shape[1:]) for name, value in after.items()}
