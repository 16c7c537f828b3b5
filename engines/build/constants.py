"""What a graph computes from constants alone is computed once, when it is exported.

Runtimes differ in what they fold by themselves: TensorRT 8.6 and 10 take a sliced weight for one that changes from step
to step, which is slow or has no kernel, and 8.6 knows a filled scalar in float32 only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

LARGEST = 1 << 16  # bytes that a folded value may have if it is larger than all that it is computed from
UNFOLDED = ("If", "Loop", "Scan", "RandomNormal", "RandomUniform")


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its conditionals."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def fold_constants(model: onnx.ModelProto) -> int:
    """Replace the nodes whose inputs are all constants by their values; returns how many. Exact: a value is what the
    node computes. Initializers that nobody uses any more are taken out.
    """
    everything = list(graphs(model.graph))
    known = {tensor.name: tensor for graph in everything for tensor in graph.initializer}
    outputs = {value.name for value in model.graph.output}  # those of a branch may be constants
    folded = 0
    for graph in everything:  # the outer one first: those inside see its constants
        for node in list(graph.node):  # in the order of their computation
            if node.op_type in UNFOLDED or outputs.intersection(node.output):
                continue
            if not all(name in known for name in node.input if name):
                continue
            values = evaluate(model, node, known)
            sources = sum(numpy_helper.to_array(known[name]).nbytes for name in node.input if name)
            if sum(value.nbytes for value in values) > max(LARGEST, sources):
                continue
            for name, value in zip(node.output, values, strict=True):
                known[name] = numpy_helper.from_array(value, name)
                graph.initializer.append(known[name])
            graph.node.remove(node)
            folded += 1
    drop_unused(model)
    return folded


def evaluate(model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> list[np.ndarray]:
    """The outputs of a node all of whose inputs are constants."""
    inputs = [known[name] for name in dict.fromkeys(node.input) if name]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    alone = onnx.helper.make_graph([node], "constant", [], ends, inputs)
    made = onnx.helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
    return [np.asarray(value) for value in ReferenceEvaluator(made).run(None, {})]


def drop_unused(model: onnx.ModelProto) -> None:
    """Take out the initializers that no node reads."""
    everything = list(graphs(model.graph))
    used = {name for graph in everything for node in graph.node for name in node.input}
    for graph in everything:
        used.update(value.name for value in graph.output)
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
