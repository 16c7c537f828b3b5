"""A network in torch -> its step graph as an ONNX file, in what every runtime of the field can read: opset 17."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ..files import write_whole
from ..networks import Network
from ..networks.folding import fold_batch_norms
from ..networks.stepper import Stepper, make_stepper
from ..spec import FLOAT32_NODE, STATE_OUT, Precision
from .constants import drop_unused, fold_constants, graphs

WRITTEN_OPSET = 18  # the oldest that torch's exporter writes
OPSET = 17  # the newest that TensorRT 8.6 reads
SAME = 2e-6  # relative; half precision itself is a hundred times as coarse
REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")  # axes are an input since opset 18


def make_step(network: Network, height: int, width: int, hop: int, precision: Precision) -> Stepper:
    """The step of a network as it is exported: batch norms folded, the network and its states in `precision`."""
    folded = fold_batch_norms(network)
    return make_stepper(folded.half() if precision == "fp16" else folded, height, width, hop).eval()


def example_inputs(stepper: Stepper, rows: int) -> tuple[torch.Tensor, ...]:
    """Black frames, all rows active, none fresh, the initial state."""
    frames = torch.zeros(rows, stepper.height, stepper.width, 3, dtype=torch.uint8)
    active = torch.ones(rows, dtype=torch.bool)
    return (frames, active, ~active, *stepper.initial_state(rows))


def export_onnx(
    network: Network,
    height: int,
    width: int,
    path: Path,
    hop: int = 1,
    *,
    precision: Precision = "fp32",
    rows: int | None = None,
    half: bool = False,
) -> Stepper:
    """Write the step graph of a network (a stream or a window, by its form), with named states.

    Inputs frames, active, fresh and the states by name; outputs logits, ready and the states by name + ".out". In
    fp16 the network and its states are float16, but for what it keeps in float32 on purpose; frames are normalised and
    logits given in float32 all the same. `rows` None leaves the number of rows free; a number makes every shape of the
    graph a constant. `half` keeps the large weights of an fp32 graph in float16, each with a Cast:
    the file is half as large, and computes in float32 all the same. Returns the stepper that was exported (batch norms
    folded).
    """
    stepper = make_step(network, height, width, hop, precision)
    example = example_inputs(stepper, rows or 2)  # any number but 1, which torch.export would take for a constant
    axis = {0: torch.export.Dim("rows", min=1, max=64)}
    free = (axis, axis, axis, tuple(axis for _ in stepper.state_names))
    state_out = [name + STATE_OUT for name in stepper.state_names]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision, which nobody needs, is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            stepper,
            example,
            dynamo=True,
            opset_version=WRITTEN_OPSET,
            input_names=["frames", "active", "fresh", *stepper.state_names],
            output_names=["logits", "ready", *state_out],
            dynamic_shapes=free if rows is None else None,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    forget_origin(model)
    fold_constants(model)
    lower_opset(model)
    if precision == "fp16":
        mark_float32(model)
    elif half:
        halve(model)
    write_whole(path, model.SerializeToString())
    return stepper


def lower_opset(model: onnx.ModelProto) -> None:
    """Rewrite a graph of opset 18 in opset 17, where the axes of a reduction are an attribute and a Split into equal
    parts counts its outputs. Raises onnx's ValidationError if the graph has anything else that 17 lacks.
    """
    everything = list(graphs(model.graph))
    constants = {tensor.name: tensor for graph in everything for tensor in graph.initializer}
    for graph in everything:
        for node in graph.node:
            if node.op_type in REDUCTIONS:
                axes = [numpy_helper.to_array(constants[name]).tolist() for name in node.input[1:]]
                del node.input[1:]
                set_attributes(node, noop_with_empty_axes=None, axes=axes[0] if axes else None)
            elif node.op_type == "Split":
                set_attributes(node, num_outputs=None)
    drop_unused(model)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model, full_check=True)


def halve(model: onnx.ModelProto) -> None:
    """Keep every matrix and kernel that float16 holds, because it was rounded to that before, in float16, with a Cast
    that gives it back.
    """
    for graph in graphs(model.graph):
        casts = []
        for tensor in graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
                continue
            name, whole = tensor.name, numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                value = whole.astype(np.float16)
            if np.allclose(value, whole, rtol=SAME, atol=0):
                tensor.CopyFrom(numpy_helper.from_array(value, f"{name}.half"))
                casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], name, to=onnx.TensorProto.FLOAT))
        nodes = list(graph.node)
        del graph.node[:]
        graph.node.extend([*casts, *nodes])


def mark_float32(model: onnx.ModelProto) -> None:
    """Begin the name of every node that computes float32 with `FLOAT32_NODE`, for a runtime that forgets types."""
    everything = list(graphs(onnx.shape_inference.infer_shapes(model).graph))
    values = [value for graph in everything for value in (*graph.value_info, *graph.output)]
    single = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    for graph in graphs(model.graph):
        for node in graph.node:
            if single.issuperset(node.output):
                node.name = FLOAT32_NODE + node.name


def set_attributes(node: onnx.NodeProto, **values: list[int] | None) -> None:
    """Replace the attributes that are named, or take them away where the value is None."""
    kept = [attribute for attribute in node.attribute if attribute.name not in values]
    new = [onnx.helper.make_attribute(name, value) for name, value in values.items() if value is not None]
    del node.attribute[:]
    node.attribute.extend([*kept, *new])


def forget_origin(model: onnx.ModelProto) -> None:
    """Take out of a graph where each node came from: stack traces, with the paths of the machine that made it."""
    for graph in graphs(model.graph):
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def node_count(path: Path) -> int:
    """How many operations an ONNX file has, those inside conditionals included."""
    return sum(len(graph.node) for graph in graphs(onnx.load(path).graph))
