"""A network in torch -> its step graph as an ONNX file."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .networks import Network
from .networks.stepper import Stepper, make_stepper
from .spec import STATE_OUT

OPSET = 18


def fold_batch_norms(network: Network) -> Network:
    """A copy in eval mode whose batch norms are part of the layers before them; exact up to rounding.

    Pairs are told by their names: conv1 / bn1 side by side, and a layer followed by a batch norm in a Sequential.
    """
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = dict(parent.named_children())
        names = list(children)
        for name, module in children.items():
            follower = (
                names[names.index(name) + 1]
                if isinstance(parent, nn.Sequential) and name != names[-1]
                else name.replace("conv", "bn")
            )
            norm = children.get(follower)
            if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                continue
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                setattr(parent, name, fuse_conv_bn_eval(module, norm))
                setattr(parent, follower, nn.Identity())
            elif isinstance(module, nn.Linear):
                setattr(parent, name, fuse_linear_bn_eval(module, norm))
                setattr(parent, follower, nn.Identity())
    return folded


def export_onnx(network: Network, height: int, width: int, path: Path, hop: int = 1) -> Stepper:
    """Write the step graph of a network (a stream or a window, by its form), float32, with named states and a free
    number of rows.

    Inputs frames, active, fresh and the states by name; outputs logits, ready and the states by name + ".out".
    Returns the stepper that was exported (batch norms folded).
    """
    stepper = make_stepper(fold_batch_norms(network), height, width, hop).eval()
    rows = 2  # any number but 1, which torch.export would take for a constant
    example = (
        torch.zeros(rows, height, width, 3, dtype=torch.uint8),
        torch.ones(rows, dtype=torch.bool),
        torch.zeros(rows, dtype=torch.bool),
        *stepper.initial_state(rows),
    )
    axis = {0: torch.export.Dim("rows", min=1, max=64)}
    state_out = [name + STATE_OUT for name in stepper.state_names]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision, which nobody needs, is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            stepper,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["frames", "active", "fresh", *stepper.state_names],
            output_names=["logits", "ready", *state_out],
            dynamic_shapes=(axis, axis, axis, tuple(axis for _ in stepper.state_names)),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    forget_origin(model)
    onnx.save(model, path)
    return stepper


def forget_origin(model: onnx.ModelProto) -> None:
    """Take out of a graph where each node came from: stack traces, with the paths of the machine that made it."""
    for graph in graphs(model.graph):
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its conditionals."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def node_count(path: Path) -> int:
    """How many operations an ONNX file has, those inside conditionals included."""
    return sum(len(graph.node) for graph in graphs(onnx.load(path).graph))
