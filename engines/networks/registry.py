"""The networks and how to build one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..errors import EngineError
from .network import Network
from .resnet import BACKBONES, ResNet
from .tcm import TCM

NETWORKS: dict[str, Callable[..., Network]] = {
    "tsn": lambda backbone, **options: ResNet(backbone, shifted=False, **options),
    "tsm": ResNet,
    "tcm": TCM,
}


def build_network(
    name: str, backbone: str, frames: int, classes: int, causal: bool, width: float = 1.0, **options: Any
) -> Network:
    """A network with fresh weights, in training mode.

    name      tsn, tsm or tcm
    backbone  resnet18, resnet34, resnet50 or resnet101
    frames    T, the frames of a clip; in the causal form, the length of the longest memory
    causal    the streaming form (True) or the papers' clip form (False); the parameters are the same
    width     factor of the backbone's channels
    options   `dropout` (default 0.5); for tsm also `shift_every`

    Raises EngineError for an unknown name or backbone and for a combination that the network does not allow.
    """
    for what, value, known in (("network", name, NETWORKS), ("backbone", backbone, BACKBONES)):
        if value not in known:
            near = difflib.get_close_matches(value, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise EngineError(f"unknown {what} {value!r}: {hint}known are {', '.join(known)}")
    try:
        return NETWORKS[name](backbone, frames=frames, classes=classes, causal=causal, width=width, **options)
    except (TypeError, ValueError) as error:
        raise EngineError(f"cannot build {name} on {backbone}: {error}") from error
