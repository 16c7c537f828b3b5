"""The networks and how to build one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import EngineError, unknown
from . import inverted, resnet
from .gtdnet import GTDNet, LightGTDNet
from .network import Network, Plan
from .stm import STM
from .tanet import LightTANet, TANet
from .tcm import TCM, LightTCM
from .tsm import TSM, TSN, LightTSM, LightTSN

NETWORKS: dict[str, Callable[..., Network]] = {
    "tsn": TSN,
    "tsm": TSM,
    "tcm": TCM,
    "tanet": TANet,
    "stm": STM,
    "gtdnet": GTDNet,
}
LIGHT: dict[str, Callable[..., Network]] = {
    "tsn": LightTSN,
    "tsm": LightTSM,
    "tcm": LightTCM,
    "tanet": LightTANet,
    "gtdnet": LightGTDNet,
}
BACKBONES = (*resnet.BACKBONES, *inverted.BACKBONES)


def build_network(
    name: str, backbone: str, frames: int, classes: int, causal: bool, width: float = 1.0, **options: Any
) -> Network:
    """A network with fresh weights, in training mode.

    name      tsn, tsm, tcm, tanet, stm or gtdnet
    backbone  resnet18, resnet26, resnet34, resnet50 or resnet101; tanet, stm and gtdnet live in bottlenecks and need
              26, 50 or 101; or mobilenet_v2 or efficientnet_lite0, in whose blocks stm has no place
    frames    T, the frames of a clip; in the causal form, the length of the longest memory
    causal    the streaming form (True) or the papers' clip form (False); the parameters are the same
    width     factor of the backbone's channels
    options   `dropout` (0.5); tsm on a ResNet: `shift_every` (1); tcm there: `pooling` (mean or statistics) and `span`;
              tsn, tsm and tcm on a light backbone: `pooling` (mean, statistics or motion), tsm and tcm there:
              `shift_from` (1), tcm: `span`;
              gtdnet: `aggregator` (avg, mta, lstm or bilstm)

    Raises EngineError for an unknown name, backbone or option, told with the nearest known one, and for a combination
    that the network does not allow.
    """
    for what, value, known in (("network", name, NETWORKS), ("backbone", backbone, BACKBONES)):
        if value not in known:
            raise unknown(what, value, known)
    makers = LIGHT if backbone in inverted.BACKBONES else NETWORKS
    if name not in makers:
        raise EngineError(f"{name} needs a ResNet of bottlenecks; on {backbone} there are {', '.join(makers)}")
    _plan, *own = inspect.signature(makers[name]).parameters
    for option in options:
        if option not in ("dropout", *own):
            raise unknown(f"option of {name} on {backbone}", option, ("dropout", *own))
    if min(frames, classes) < 1:
        raise EngineError(f"cannot build {name}: frames and classes are 1 or more, not {frames} and {classes}")
    plan = Plan(backbone, frames, classes, causal, width, options.pop("dropout", 0.5))
    try:
        return makers[name](plan, **options)
    except ValueError as error:
        raise EngineError(f"cannot build {name} on {backbone}: {error}") from error
