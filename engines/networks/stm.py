"""STM: spatio-temporal and motion encoding in one block (Jiang et al., "STM: SpatioTemporal and Motion Encoding for
Action Recognition", ICCV 2019). Every bottleneck of the ResNet is replaced:

    o = ReLU(BN1(conv1(x)))
    a = ReLU(BN2(conv2(CSTM(o))))           channel-wise spatio-temporal: one temporal kernel for each channel
    y = BN3(conv3(a + CMM(o)))              channel-wise motion: differences of neighbouring frames
    out = ReLU(y + shortcut(x))

Where conv2 has stride 2, CMM(o) is max-pooled by 2. Choice: upwards (ceil), so that odd maps fit too.
Causal form: CSTM loses its future tap; CMM's difference is taken to the frame before instead of the frame after.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Plan
from .resnet import Bottleneck, ResNet, require_bottlenecks
from .temporal import Reach, State, advance, delay, named, newest, part, per_frame, started_after


class CSTM(nn.Module):
    """A temporal convolution of kernel 3 for each channel, without bias: y[t] = sum_j w[c, j] * x[t + j - 1].

    It starts as a shift: a quarter of the channels takes the previous frame, a quarter the next one, the rest stays;
    in the causal form, which has no tap 2, that last quarter stays too.
    State of the causal form: `last` [B, C, H, W], the last frame.
    """

    def __init__(self, channels: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        taps = torch.ones(channels, dtype=torch.long)
        taps[: channels // 4] = 0
        if not causal:
            taps[channels - channels // 4 :] = 2
        with torch.no_grad():
            self.conv.weight.copy_(F.one_hot(taps, 3).unsqueeze(1))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the same shape, state."""
        before, now, after = self.conv.weight.view(-1, 3, 1, 1).unbind(1)  # each [C, 1, 1]
        earlier = delay(x, state.get("last"))
        if self.causal:
            return per_frame(lambda z, e: z * now + e * before, x, earlier), {"last": newest(x)}
        return per_frame(lambda z, e, a: z * now + e * before + a * after, x, earlier, advance(x)), {}


class CMM(nn.Module):
    """Motion as the difference of reduced maps: z = BN(reduce(o)); m = expand(H), with C / 16 channels for z and H.

    Clip form: H[t] = dw3x3(z)[t + 1] - z[t], and 0 for the last frame. Causal form: H[t] = dw3x3(z[t]) - z[t - 1],
    and 0 for the first. State of the causal form: `last` [B, C / 16, H, W], the last z; `started` [B], 1 once a frame
    has come.
    """

    def __init__(self, channels: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        reduced = max(1, channels // 16)
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced))
        self.transform = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> the same shape, state."""

        def difference(now: Tensor, before: Tensor, known: Tensor) -> Tensor:
            weight = -self.transform.weight  # a runtime adds a state as it is, and would copy it to change its sign
            negative = F.conv2d(now, weight, padding=1, groups=len(weight)) + before
            return negative * -known[:, None, None, None]

        z = per_frame(self.reduce, x)
        here = torch.ones_like(z[:, :, 0, 0, 0])
        motion = per_frame(difference, z, delay(z, state.get("last")), delay(here, state.get("started")))
        if self.causal:
            return per_frame(self.expand, motion), {"last": newest(z), "started": started_after(z, state)}
        return per_frame(self.expand, advance(motion)), {}


class STMBlock(Bottleneck):
    """The paper's block in the place of a bottleneck."""

    def __init__(self, inplanes: int, planes: int, stride: int, *, causal: bool) -> None:
        super().__init__(inplanes, planes, stride, Reach(1, 0) if causal else Reach(1, 1))
        self.cstm = CSTM(planes, causal=causal)
        self.cmm = CMM(planes, causal=causal)
        self.pool = nn.Identity() if stride == 1 else nn.MaxPool2d(stride, ceil_mode=True)

    def residual(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, C, H, W] -> [B, T, 4P, H', W'], state."""
        o = per_frame(lambda z: self.relu(self.bn1(self.conv1(z))), x)
        mixed, after_cstm = self.cstm(o, part(state, "cstm"))
        motion, after_cmm = self.cmm(o, part(state, "cmm"))

        def rest(mixed: Tensor, motion: Tensor) -> Tensor:
            return self.bn3(self.conv3(self.relu(self.bn2(self.conv2(mixed))) + self.pool(motion)))

        return per_frame(rest, mixed, motion), named(after_cstm, "cstm") | named(after_cmm, "cmm")


class STM(ResNet):
    """A ResNet whose bottlenecks are STM blocks."""

    def __init__(self, plan: Plan) -> None:
        require_bottlenecks(plan, "STM")
        super().__init__(
            plan, lambda inplanes, planes, stride, _: STMBlock(inplanes, planes, stride, causal=plan.causal)
        )
