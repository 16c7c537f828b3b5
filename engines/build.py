"""A trained network -> the files of a model: state dict, ONNX step graph, sidecar with its certificate."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .base import Engine, probabilities
from .eager import EagerEngine
from .errors import EngineError
from .networks import Network
from .networks.measure import cost
from .networks.stepper import Stepper, make_stepper
from .openvino import OpenVINOEngine, has_bf16
from .spec import STATE_OUT, Certificate, EngineSpec, TensorSpec, sha256

OPSET = 18
LIMITS = {"fp32": 1e-3, "bf16": 2e-2}  # of the difference in a probability


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


def build_model(network: Network, spec: EngineSpec, folder: Path, *, steps: int = 200) -> EngineSpec:
    """Write `NAME.pt`, `NAME.onnx` and `NAME.json` into a folder; returns the sidecar, with states, hashes,
    certificates.

    The ONNX graph is certified in OpenVINO against the eager network: in float32, where EngineError refuses a graph
    that differs, and in bf16 if this processor has it and the graph stays within its limit. Without a bf16
    certificate the engine's `auto` runs float32.
    """
    if (spec.mode == "stream") != network.causal:
        raise EngineError(f"{spec.name}: {spec.mode} mode needs the {'clip' if network.causal else 'causal'} form")
    folder.mkdir(parents=True, exist_ok=True)
    weights, graph = folder / f"{spec.name}.pt", folder / f"{spec.name}.onnx"
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, weights)
    stepper = export_onnx(network, spec.height, spec.width, graph, spec.hop)
    state = zip(stepper.state_names, stepper.initial_state(1), strict=True)
    states = tuple(TensorSpec(name, tuple(value.shape[1:]), "float32") for name, value in state)
    files = {path.name: sha256(path) for path in (weights, graph)}
    figures = cost(network.eval(), spec.height, spec.width)
    spec = msgspec.structs.replace(
        spec,
        states=states,
        files=files,
        nodes=node_count(graph),
        parameters=sum(value.numel() for value in network.parameters()),
        step_macs=figures.step_macs,
        latency=int(figures.reach.ahead),
    )
    reference = EagerEngine(weights, spec)
    certificates = [certify(reference, OpenVINOEngine(graph, spec, precision="fp32"), "fp32", steps)]
    if has_bf16():
        with suppress(EngineError):
            certificates.append(certify(reference, OpenVINOEngine(graph, spec, precision="bf16"), "bf16", steps))
    spec = msgspec.structs.replace(spec, certificates=tuple(certificates))
    (folder / f"{spec.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
    return spec


def node_count(path: Path) -> int:
    """How many operations an ONNX file has, those inside conditionals included."""
    return sum(len(graph.node) for graph in graphs(onnx.load(path).graph))


def certify(reference: Engine, engine: Engine, precision: Literal["fp32", "bf16"], steps: int) -> Certificate:
    """Run both over the same moving frames, one row, three starts, and compare (in window mode, what is `ready`).

    Raises EngineError if a probability differs by more than 1e-3 (fp32) or 2e-2 (bf16).
    """
    spec = reference.spec
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 32, 3), np.uint8)
    texture = cv2.resize(coarse, (2 * spec.width, 2 * spec.height), interpolation=cv2.INTER_CUBIC)
    state, other = reference.new_state(1), engine.new_state(1)
    active = np.ones(1, np.bool_)
    worst, agree, compared = 0.0, 0, 0
    for n in range(steps):
        y, x = (3 * n) % spec.height, (5 * (n // 16) + n) % spec.width  # drifts, and jumps now and then
        frame = np.ascontiguousarray(texture[None, y : y + spec.height, x : x + spec.width], np.uint8)
        fresh = np.array([n % (steps // 3 + 1) == 0])
        p, ready = reference.step(frame, active, fresh, state)
        q, _ = engine.step(frame, active, fresh, other)
        if spec.mode == "window" and not ready[0]:
            continue
        compared += 1
        worst = max(worst, float(np.abs(probabilities(p) - probabilities(q)).max()))
        agree += int(p.argmax() == q.argmax())
    if worst > LIMITS[precision]:
        raise EngineError(
            f"{engine.backend} in {precision} differs from the eager network by {worst:.2g} in a probability, "
            f"more than the {LIMITS[precision]:g} that is allowed"
        )
    if not compared:
        raise ValueError(f"{steps} steps are too few: no window of {spec.frames} frames was full after a start")
    return Certificate(engine.backend, precision, compared, worst, agree / compared)
