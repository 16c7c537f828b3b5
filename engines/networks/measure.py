"""What a network costs to run and to keep. Measured on torch's meta device: shapes flow, nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import EngineError
from .network import Network
from .registry import build_network
from .stepper import make_stepper
from .temporal import Reach


@dataclass(frozen=True)
class Cost:
    """One way to run a network: as a stream (causal form) or over windows (clip form).

    step_macs     multiply-adds of one step: one frame's as a stream; in a window, one frame's up to the first stage
                  that looks at others and the whole window's from there on
    states        what is kept between steps, for one stream: name -> shape
    reach         the frames behind and ahead that an answer can depend on
    """

    step_macs: int
    states: dict[str, tuple[int, ...]]
    reach: Reach

    @property
    def state_bytes(self) -> int:
        """Memory of one stream in fp32."""
        return 4 * sum(torch.Size(shape).numel() for shape in self.states.values())


@dataclass(frozen=True)
class Description:
    """A network's figures.

    parameters   without running statistics
    clip_macs    multiply-adds of the papers' clip of T frames, with nothing cached
    stream       None if the network has no causal form
    """

    parameters: int
    clip_macs: int
    stream: Cost | None
    window: Cost


def count_macs(module: nn.Module, *inputs: Any) -> int:
    """The multiply-adds of one call in convolutions, linear layers and matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def cost(network: Network, height: int, width: int) -> Cost:
    """The cost of a network in eval mode on the current device, for pictures of `height` x `width` px."""
    stepper = make_stepper(network, height, width)
    state = stepper.initial_state(1)
    mask, picture = torch.ones(1, dtype=torch.bool), torch.zeros(1, height, width, 3, dtype=torch.uint8)
    shapes = {name: tuple(value.shape[1:]) for name, value in zip(stepper.state_names, state, strict=True)}
    return Cost(count_macs(stepper, picture, mask, mask, *state), shapes, network.reach)


def describe(
    name: str, backbone: str, *, frames: int, classes: int, size: int = 224, width: float = 1.0, **options: Any
) -> Description:
    """The figures of a network for pictures of `size` x `size` px; the other arguments as for `build_network`, whose
    EngineError it raises.
    """
    with torch.device("meta"):
        clip_form = build_network(name, backbone, frames, classes, causal=False, width=width, **options).eval()
        try:
            causal_form = build_network(name, backbone, frames, classes, causal=True, width=width, **options).eval()
        except EngineError:
            causal_form = None
        return Description(
            parameters=sum(value.numel() for value in clip_form.parameters()),
            clip_macs=count_macs(clip_form, torch.zeros(1, frames, 3, size, size), {}),
            stream=cost(causal_form, size, size) if causal_form is not None else None,
            window=cost(clip_form, size, size),
        )
