"""The network that training begins with: fresh, or with the weights of a model or of a published checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..errors import EngineError
from ..loading import find_models
from ..networks import Network, build_network
from ..networks.checkpoints import read_checkpoint, read_state_dict
from ..networks.tcm import TCM
from ..spec import EngineSpec, check_file, read_spec
from .recipe import Recipe

LOGGER = logging.getLogger(__name__)


def build(recipe: Recipe, labels: Sequence[str]) -> Network:
    """The recipe's network for these labels, with the weights of `init`, its frozen modules without gradients.

    Raises EngineError where the recipe, the weights and the labels do not fit each other.
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
    except EngineError as error:
        raise EngineError(f"cannot build the network of the recipe: {error}") from error
    if isinstance(net, TCM):
        net.tcm.tam.let_through()
    if recipe.init is not None:
        try:
            _initialise(net, recipe.init, recipe, labels)
        except EngineError as error:
            raise EngineError(f"cannot begin with {recipe.init}: {error}") from error
    for module in frozen(net, recipe):
        module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise EngineError(f"nothing is left to train but {', '.join(recipe.freeze)}, which freeze names; freeze less")
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def frozen(net: Network, recipe: Recipe) -> Iterator[nn.Module]:
    """The modules that keep their weights and running statistics; `backbone` is all but the head."""
    names = [name for name, _ in net.named_children() if name not in ("fc", "dropout")]
    for asked in recipe.freeze:
        for name in names if asked == "backbone" else (asked,):
            try:
                yield net.get_submodule(name)
            except AttributeError:
                raise EngineError(f"cannot freeze {asked!r}: the network has backbone, {', '.join(names)}") from None


def load_teacher(source: str, recipe: Recipe, labels: Sequence[str]) -> Network:
    """A clip-form network in eval mode that knows the same labels: a model in window mode, or a published checkpoint.

    Raises EngineError for anything else.
    """
    try:
        model = _find_model(source)
        if model is None:
            net, known = read_checkpoint(source, frames=recipe.frames).build(), None
        else:
            weights, spec = model
            causal, options = spec.mode == "stream", cast(dict[str, Any], spec.options)
            net = build_network(
                spec.network, spec.backbone, spec.frames, len(spec.labels), causal, spec.channel_width, **options
            )
            net.load_state_dict(read_state_dict(weights, str(weights)))
            known = spec.labels
    except (EngineError, RuntimeError) as error:
        raise EngineError(f"cannot use the teacher {source}: {error}") from error
    if net.causal:
        fault = "does not look ahead"
    elif net.frames != recipe.frames:
        fault = f"sees {net.frames} frames, not {recipe.frames}"
    elif net.fc.out_features != len(labels) or known not in (None, tuple(labels)):
        fault = "has other labels than the data set"
    else:
        return net.eval()
    raise EngineError(
        f"the teacher {source} {fault}: give a model that was trained with causal: false on this set, with the same "
        "frames"
    )


def _find_model(source: str) -> tuple[Path, EngineSpec] | None:
    """The weights and the sidecar of a shipped model (by name) or of a file; None for a file without a sidecar."""
    path = find_models().get(source, Path(source))
    if not path.is_file():
        raise EngineError(f"there is no such file, and no such model among {', '.join(find_models())}")
    if path.suffix not in (".json", ".onnx", ".pt") or not path.with_suffix(".json").exists():
        return None
    spec, weights = read_spec(path), path.with_suffix(".pt")
    check_file(weights, spec)
    return weights, spec


def _initialise(net: Network, source: str, recipe: Recipe, labels: Sequence[str]) -> None:
    """Load all parameters but those that are new, and say which are. Raises EngineError where they do not fit."""
    model = _find_model(source)
    if model is None:
        checkpoint = read_checkpoint(source, recipe.network, recipe.frames, classes=len(labels))
        options = checkpoint.options if checkpoint.layout.network == "tsm" else recipe.options
        theirs = (checkpoint.network, checkpoint.backbone, 1.0, options)
        parameters = checkpoint.parameters
    else:
        weights, spec = model
        theirs = (spec.network, spec.backbone, spec.channel_width, spec.options)
        parameters = read_state_dict(weights, str(weights))
        if spec.labels != tuple(labels):
            parameters = {name: value for name, value in parameters.items() if not name.startswith("fc.")}
    ours = (recipe.network, recipe.backbone, recipe.width, recipe.options)
    if theirs != ours:
        raise EngineError(f"it is {_describe(*theirs)}, the recipe asks for {_describe(*ours)}; make them equal")
    own = net.state_dict()
    wrong = [name for name, value in parameters.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise EngineError(f"{len(wrong)} of its tensors do not fit, {', '.join(wrong[:5])}; was its T another?")
    net.load_state_dict(parameters, strict=False)
    if new := [name for name in own if name not in parameters]:
        LOGGER.warning("%s lacks %d tensors, which begin fresh: %s", source, len(new), ", ".join(new[:10]))


def _describe(network: str, backbone: str, width: float, options: Mapping[str, int | str]) -> str:
    more = "".join(f", {key} {value}" for key, value in options.items())
    return f"{network} on {backbone}, width {width:g}{more}"
