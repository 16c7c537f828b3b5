"""Published checkpoints of the reference implementations -> networks of this package, every parameter accounted for.

Read are the official TSM and TCM files (ResNet-18 to 101): torchvision names under `base_model.`, the head `new_fc`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import EngineError
from .network import Network
from .registry import build_network
from .resnet import BACKBONES, Bottleneck

RENAMES = (
    (r"^module\.", ""),  # saved from DataParallel
    (r"^base_model\.", ""),
    (r"^new_fc\.", "fc."),
    (r"\.conv1\.net\.", ".conv1."),  # TSM wraps the convolution that reads the shifted map
    (r"^tcm_layer\.", "tcm."),
    (r"\.tam\.ETA\.", ".tam.eta."),
)


def import_checkpoint(
    source: str | Path | Mapping[str, Any], network: str = "auto", frames: int | None = None
) -> Network:
    """Read a published checkpoint: a network in clip form, eval mode, float32.

    source   a file, or its content: a state dict, bare or under `state_dict`
    network  tsm or tcm, or auto: told by the keys
    frames   T, default 8; these files do not tell it

    Backbone and class count are told by keys and shapes. Raises EngineError for a file that is not a checkpoint or
    that holds code instead of tensors, and for keys that are unknown, missing or of another shape: the first ten and
    their count.
    """
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    raw = read_state_dict(source, name)
    found = "tcm" if any("tcm_layer." in key for key in raw) else "tsm"
    if network not in ("auto", found):
        raise EngineError(f"{name}: holds a {found} network, not {network}")
    renamed = {rename(key): value for key, value in raw.items()}
    if "fc.weight" not in renamed:
        raise EngineError(f"{name}: has no head new_fc.weight, so it is not a TSM or TCM checkpoint")
    renamed["fc.weight"] = renamed["fc.weight"].flatten(1)  # TCM's head is a convolution of kernel 1: [K, C, 1]
    options = {"shift_every": 2} if found == "tsm" and "base_model.layer1.1.conv1.weight" in map(strip, raw) else {}
    net = build_network(
        found, told_backbone(renamed, name), frames or 8, len(renamed["fc.weight"]), causal=False, **options
    )
    expected = net.state_dict()
    wrong = [f"unknown {key}" for key in renamed if key not in expected]
    wrong += [f"missing {key}" for key in expected if key not in renamed]
    wrong += [
        f"{key} is {list(renamed[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in renamed and renamed[key].shape != value.shape
    ]
    if wrong:
        raise EngineError(f"{name}: does not fit {found}: {len(wrong)} keys differ: {'; '.join(wrong[:10])}")
    net.load_state_dict(renamed)
    return net.eval()


def read_state_dict(source: str | Path | Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of a file or of a loaded one, by their published names."""
    content: Any = source
    if not isinstance(source, Mapping):
        try:
            content = torch.load(source, map_location="cpu", weights_only=True)
        except OSError as error:
            raise EngineError(f"{name}: cannot be read: {error.strerror}") from error
        except Exception as error:  # torch raises half a dozen types for what is not a file of tensors
            raise EngineError(
                f"{name}: is not a plain checkpoint of tensors (a file that carries code is refused): "
                f"{str(error).splitlines()[0]}"
            ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise EngineError(f"{name}: holds no state dict, neither bare nor under 'state_dict'")
    return {key: value.float() if value.is_floating_point() else value for key, value in content.items()}


def strip(key: str) -> str:
    """A key without the prefix that DataParallel adds."""
    return key.removeprefix("module.")


def rename(key: str) -> str:
    """The name in this package of a published key."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def told_backbone(state: Mapping[str, Tensor], name: str) -> str:
    """The ResNet whose block counts and kind the keys have."""
    depths = tuple(len({k.split(".")[1] for k in state if k.startswith(f"layer{layer}.")}) for layer in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state
    for backbone, (block, blocks) in BACKBONES.items():
        if blocks == depths and (block is Bottleneck) == bottleneck:
            return backbone
    raise EngineError(f"{name}: {depths} blocks in layer1 to layer4 are no ResNet of {', '.join(BACKBONES)}")
