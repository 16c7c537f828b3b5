"""The network that training begins with: fresh, or with the weights of a model or of a published checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.errors import EngineError
from engines.loading import find_models
from engines.networks import Network, build_network
from engines.networks.checkpoints import read_checkpoint, read_state_dict
from engines.networks.tcm import TAM, TCM
from engines.spec import EngineSpec, check_file, read_spec
from tools.errors import ToolError
from tools.recipe import Recipe

LOGGER = logging.getLogger(__name__)


def build(recipe: Recipe, labels: Sequence[str]) -> Network:
    """The recipe's network for these labels, with the weights of `init`, its frozen modules without gradients.

    Raises ToolError where the recipe, the weights and the labels do not fit each other.
    """
    torch.manual_seed(recipe.seed)
    try:
        net = build_network(
            recipe.network,
            recipe.backbone,
            frames=recipe.frames,
            classes=len(labels),
            causal=recipe.causal,
            width=recipe.width,
            dropout=recipe.dropout,
            **recipe.options,
        )
        if isinstance(net, TCM):
            _open(net.tcm.tam)
        if recipe.init is not None:
            _initialise(net, recipe.init, recipe, labels)
    except EngineError as error:
        raise ToolError(f"cannot build the network of the recipe: {error}") from error
    for module in frozen(net, recipe):
        module.requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def frozen(net: Network, recipe: Recipe) -> Iterator[nn.Module]:
    """The modules that keep their weights and running statistics; `backbone` is all but the head."""
    names = [name for name, _ in net.named_children() if name not in ("fc", "dropout")]
    for asked in recipe.freeze:
        for name in names if asked == "backbone" else (asked,):
            try:
                yield net.get_submodule(name)
            except AttributeError:
                raise ToolError(f"cannot freeze {asked!r}: the network has backbone, {', '.join(names)}") from None


def load_teacher(source: str, labels: Sequence[str]) -> Network:
    """A clip-form network in eval mode that knows the same labels: a model in window mode, or a published checkpoint.

    Raises ToolError for anything else.
    """
    try:
        model = _find_model(source)
        if model is None:
            checkpoint = read_checkpoint(source)
            if checkpoint.classes != len(labels):
                raise ToolError(
                    f"the teacher {source} knows {checkpoint.classes} classes, and the data set has {len(labels)}"
                )
            return checkpoint.build(causal=False)
        weights, spec = model
        if spec.mode != "window" or spec.labels != tuple(labels):
            what = "does not look ahead" if spec.mode != "window" else "has other labels than the data set"
            raise ToolError(
                f"the teacher {source} {what}: give a model that was trained with causal: false on this set"
            )
        options: dict[str, Any] = dict(spec.options)
        net = build_network(
            spec.network, spec.backbone, spec.frames, len(labels), causal=False, width=spec.channel_width, **options
        )
        net.load_state_dict(read_state_dict(weights, str(weights)))
        return net.eval()
    except (EngineError, RuntimeError) as error:
        raise ToolError(f"cannot use the teacher {source}: {error}") from error


def _find_model(source: str) -> tuple[Path, EngineSpec] | None:
    """The weights and the sidecar of a shipped model (by name) or of a file; None where there is no sidecar."""
    sidecar = find_models().get(source, Path(source).with_suffix(".json"))
    if not sidecar.exists():
        return None
    spec, weights = read_spec(sidecar), sidecar.with_suffix(".pt")
    check_file(weights, spec)
    return weights, spec


def _initialise(net: Network, source: str, recipe: Recipe, labels: Sequence[str]) -> None:
    """Load all parameters but those that are new, and say which are."""
    model = _find_model(source)
    if model is None:
        if not Path(source).exists():
            raise ToolError(f"cannot begin with {source}: there is no such model or file")
        parameters = read_checkpoint(source, recipe.network, recipe.frames, classes=len(labels)).parameters
    else:
        weights, spec = model
        theirs = (spec.network, spec.backbone, spec.channel_width, spec.options)
        ours = (recipe.network, recipe.backbone, recipe.width, recipe.options)
        if theirs != ours:
            raise ToolError(
                f"cannot begin with {source}: it is {spec.network} on {spec.backbone} of width {spec.channel_width}, "
                f"the recipe's is {recipe.network} on {recipe.backbone} of width {recipe.width}; make these keys equal"
            )
        parameters = read_state_dict(weights, str(weights))
        if spec.labels != tuple(labels):
            parameters = {name: value for name, value in parameters.items() if not name.startswith("fc.")}
    _load(net, parameters, source)


def _load(net: Network, parameters: dict[str, Tensor], source: str) -> None:
    own = net.state_dict()
    wrong = [name for name, value in parameters.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise ToolError(f"cannot begin with {source}: {len(wrong)} tensors do not fit, {', '.join(wrong[:5])} ...")
    net.load_state_dict(parameters, strict=False)
    if new := [name for name in own if name not in parameters]:
        LOGGER.warning("%s lacks %d tensors, which begin fresh: %s", source, len(new), ", ".join(new[:10]))


@torch.no_grad()
def _open(tam: TAM) -> None:
    """Let a fresh TAM pass its motion maps on: at random, its narrow first layers lose the signs of u and v."""
    convs = [layer for layer in tam.conv1 if isinstance(layer, nn.Conv2d)][:3]
    norms = [layer for layer in tam.conv1 if isinstance(layer, nn.BatchNorm2d)][:3]
    for conv, norm in zip(convs, norms, strict=True):
        conv.weight.normal_(0, 0.05)
        for plane in range(6):
            conv.weight[plane, plane % 2] += 1 / 9  # the mean of its own 3x3 neighbourhood
        norm.bias.fill_(2.0)
