"""The graphs that are exported: what every runtime of the field can read, and what TensorRT makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from engines import EngineError, EngineSpec, TensorSpec, find_models, probabilities
from engines.backends.openvino import OpenVINOEngine, core
from engines.backends.tensorrt_build import serialize
from engines.build.constants import fold_constants, graphs
from engines.build.export import OPSET, export_onnx, lower_opset
from engines.networks import build_network, resnet
from engines.networks.stepper import make_stepper
from engines.spec import FLOAT32_NODE, STATE_OUT, Precision, read_spec

from ..conftest import LABELS, moving_frames
from ..networks.contract import settle

SIZE, ROWS = 32, 2
NO_RTX = "tensorrt-rtx, which builds without a GPU, is not installed"
BEFORE_THE_CORRELATION = ("layer1", "layer2", "tcm.mtdm", "window")
CASES = [
    (network, mode)
    for network in ("tsn", "tsm", "tcm", "tanet", "stm", "gtdnet")
    for mode in ("stream", "window")
    if (network, mode) != ("tsn", "window")
]


class Exported:
    """A float16 graph of a network on a ResNet of a few bottlenecks, and the float32 step that it came from."""

    def __init__(self, network: str, mode: str, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(resnet.BACKBONES, "resnet26", (resnet.Bottleneck, (1, 1, int(network == "tcm"), 0)))
            net = build_network(network, "resnet26", 4, len(LABELS), mode == "stream", width=0.125)
        settle(net)
        with torch.no_grad():
            net.fc.weight.mul_(2 / net.frame_logits(torch.randn(1, 4, 3, SIZE, SIZE)).std())
        hop = 2 if mode == "window" and network == "tcm" else 1
        self.network, self.trained = network, net
        self.path = folder / f"{network}.fp16.onnx"
        export_onnx(net, SIZE, SIZE, self.path, hop, precision="fp16", rows=ROWS)
        self.model = onnx.load(self.path)
        self.stepper = make_stepper(net.eval(), SIZE, SIZE, hop)
        states = zip(self.stepper.state_names, self.stepper.initial_state(1), strict=True)
        self.spec = EngineSpec(
            name=network, labels=LABELS, height=SIZE, width=SIZE, rate_hz=10.0, frames=4, mode="stream", fit="stretch",
            network=network, backbone="resnet26", channel_width=0.125, files={}, hop=hop,
            states=tuple(TensorSpec(name, tuple(value.shape[1:]), "float32") for name, value in states),
        )  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network, mode = request.param
    return Exported(network, mode, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def single(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float32 graph of one row."""
    path = tmp_path_factory.mktemp("single") / f"{exported.network}.onnx"
    export_onnx(exported.trained, SIZE, SIZE, path, exported.spec.hop, rows=1)
    return path


def test_tensorrt_builds_the_float16_step_of_every_network_with_the_right_tensors(exported: Exported) -> None:
    """`serialize` compares the names, types and shapes of all inputs and outputs with the sidecar's."""
    trt = pytest.importorskip("tensorrt_rtx", reason=NO_RTX)
    told: list[str] = []
    plan = serialize(trt, exported.path, exported.spec, rows=ROWS, precision="fp16", progress=told.append)
    assert len(plan) > 10_000
    assert told[0].startswith("Building engine")
    halves = [value for value in exported.model.graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT16]
    single = ("seen", *BEFORE_THE_CORRELATION) if exported.network == "tcm" else "seen"
    wanted = {state.name for state in exported.spec.states if not state.name.startswith(single)}
    assert {value.name for value in halves} == wanted


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")  # in TensorRT-RTX only
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_tensorrt_builds_the_shipped_model_for_any_number_of_rows(
    rows: int, precision: Precision, tmp_path: Path
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason=NO_RTX)
    default = find_models()["default"]
    graph = default.with_suffix({"fp16": ".fp16.onnx", "fp32": ".onnx"}[precision])
    timings = tmp_path / "timings"
    timings.write_bytes(b"from another version")
    plan = serialize(trt, graph, read_spec(default), rows=rows, precision=precision, progress=print, timings=timings)
    assert len(plan) > 100_000
    assert timings.read_bytes() not in {b"", b"from another version"}


def not_folded(model: onnx.ModelProto) -> list[str]:
    """The nodes that compute from constants alone."""
    everything = list(graphs(model.graph))
    known = {tensor.name for graph in everything for tensor in graph.initializer}
    return [node.name for graph in everything for node in graph.node if known.issuperset(node.input)]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_what_is_computed_from_constants_is_a_constant_in_every_network(
    precision: Precision, exported: Exported, single: Path
) -> None:
    """TensorRT 8.6 and 10 take a sliced weight for one that changes, and 8.6 fills no empty shape in float16."""
    model = exported.model if precision == "fp16" else onnx.load(single)
    everything = list(graphs(model.graph))
    constants = {tensor.name for graph in everything for tensor in graph.initializer}
    nodes = [node for graph in everything for node in graph.node]
    assert all(constants.issuperset(node.input[1:]) for node in nodes if node.op_type == "Conv")
    assert not_folded(model) == []
    assert "ConstantOfShape" not in {node.op_type for node in nodes}


def test_a_state_of_maps_lies_as_the_convolutions_have_them(exported: Exported, single: Path) -> None:
    """Another layout costs a copy of the map there, one back, and one into the state: a tenth of a step."""
    if exported.network == "tanet":
        pytest.skip(
            "TANet's mixing reads more vectors than maps, and OpenVINO takes its layout from most of what it reads"
        )
    compiled = OpenVINOEngine(single, exported.spec, threads=1, precision="fp32").new_state(1).parts[0].request
    layouts: dict[str, set[str]] = {"Convolution": set(), "MemoryInput": set()}
    for node in compiled.get_compiled_model().get_runtime_model().get_ops():
        told = node.get_rt_info()
        kind = told["layerType"].astype(str)
        if kind in layouts and node.get_output_partial_shape(0).rank.get_length() == 4:
            layouts[kind].add(told["outputLayouts"].astype(str))
    assert layouts["MemoryInput"] <= layouts["Convolution"]
    assert bool(layouts["MemoryInput"]) == any(len(state.shape) == 3 for state in exported.spec.states)


def test_a_graph_of_free_rows_has_its_constants_too(model_folder: Path) -> None:
    for name in ("small.onnx", "window.onnx"):
        assert not_folded(onnx.load(model_folder / name)) == []
    default = find_models()["default"]
    for shipped in (default.with_suffix(".onnx"), default.with_suffix(".fp16.onnx")):
        assert not_folded(onnx.load(shipped)) == []


def test_folding_changes_no_answer_and_leaves_what_would_grow() -> None:
    nodes = [
        helper.make_node("Slice", ["w", "zero", "two", "zero"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y0"]),
        helper.make_node("Expand", ["part", "large"], ["grown"]),
        helper.make_node("ReduceSum", ["grown"], ["y1"], keepdims=0),
    ]
    model = opset_18(nodes, {"w": [1, 2, 3], "zero": [0], "two": [2], "large": [30_000, 2]}, [2, 2], [])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.INT64
    x = np.arange(4).reshape(2, 2)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    assert fold_constants(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Add", "Expand", "ReduceSum"]
    assert {tensor.name for tensor in model.graph.initializer} == {"part", "large"}
    for found, wanted in zip(ReferenceEvaluator(model).run(None, {"x": x}), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_a_float16_graph_stays_in_opset_17_and_answers_as_the_float32_network(exported: Exported) -> None:
    assert [(opset.domain, opset.version) for opset in exported.model.opset_import] == [("", OPSET)]
    model = core().read_model(exported.path)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    state = dict(zip(exported.stepper.state_names, exported.stepper.initial_state(ROWS), strict=True))
    other = {port.any_name: np.zeros(port.shape, port.element_type.to_dtype()) for port in model.inputs[3:]}
    for n, frames in enumerate(moving_frames(9, ROWS, SIZE, SIZE)):
        active, fresh = np.array([True, n != 2]), np.array([n == 6, n == 0])
        with torch.no_grad():
            expected, ready, *after = exported.stepper(*map(torch.from_numpy, (frames, active, fresh)), *state.values())
        state = dict(zip(state, after, strict=True))
        found = compiled({"frames": frames, "active": active, "fresh": fresh, **other})
        other = {name: np.array(found[name + STATE_OUT]) for name in other}
        assert np.array_equal(found["ready"], ready.numpy())
        seen = active & (ready.numpy() | (exported.spec.hop == 1))
        difference = probabilities(found["logits"]) - probabilities(expected.numpy())
        assert np.abs(difference[seen]).max(initial=0) <= 2e-2, f"step {n}"


def typed(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], dict[str, int]]:
    """The nodes of a model, and its values' types by their names."""
    everything = list(graphs(onnx.shape_inference.infer_shapes(model).graph))
    values = [value for graph in everything for value in (*graph.value_info, *graph.input, *graph.output)]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return [node for graph in everything for node in graph.node], types


def needed_for_the_correlation(model: onnx.ModelProto) -> set[str]:
    """The names of all values that the correlation depends on. It is the first product in float32."""
    nodes, types = typed(model)
    makers = {name: node for node in nodes for name in node.output}
    products = [node for node in nodes if node.op_type == "MatMul" and types[node.output[0]] == TensorProto.FLOAT]
    assert len(products) == 2  # the other is the expectation of the displacement
    found: set[str] = set()
    left = [*products[0].input]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += makers[name].input if name in makers else ()
    return found


def test_correlation_attention_and_softmax_are_computed_in_float32(exported: Exported) -> None:
    nodes, types = typed(exported.model)
    for node in nodes:
        single = all(types[name] == TensorProto.FLOAT for name in node.output)
        assert node.name.startswith(FLOAT32_NODE) == single
    exponentials = {types[node.output[0]] for node in nodes if node.op_type in {"Softmax", "Exp"}}
    assert exponentials == {
        "tcm": {TensorProto.FLOAT}, "gtdnet": {TensorProto.FLOAT}, "tanet": {TensorProto.FLOAT16},
    }.get(exported.network, set())  # fmt: skip
    before = needed_for_the_correlation(exported.model) if exported.network == "tcm" else set()
    assert not {name for name in before if types.get(name) == TensorProto.FLOAT16}
    behind = [types[node.output[0]] for node in nodes if node.op_type == "Conv" and node.output[0] not in before]
    assert behind.count(TensorProto.FLOAT) == 4 * (exported.network == "tcm")  # those on the motion
    assert set(behind) <= {TensorProto.FLOAT, TensorProto.FLOAT16}
    assert TensorProto.FLOAT16 in behind


def test_nothing_that_the_correlation_of_the_shipped_model_depends_on_is_half() -> None:
    model = onnx.load(find_models()["default"].with_suffix(".fp16.onnx"))
    _, types = typed(model)
    before = needed_for_the_correlation(model)
    assert "frames" in before
    assert not {name for name in before if types.get(name) == TensorProto.FLOAT16}


def test_a_graph_with_a_node_that_tensorrt_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason=NO_RTX)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["y"], "the_node", domain="x.y")], "g", [value], [out]
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("x.y", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "mystery.onnx")
    spec = read_spec(find_models()["default"])
    with pytest.raises(EngineError, match=r"cannot read this graph: node 0 the_node \(Mystery\)"):
        serialize(trt, tmp_path / "mystery.onnx", spec, rows=1, precision="fp16", progress=print)
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(EngineError, match=r"text\.onnx: TensorRT .* cannot read this graph: "):
        serialize(trt, tmp_path / "text.onnx", spec, rows=1, precision="fp16", progress=print)


def opset_18(nodes: list[onnx.NodeProto], constants: dict[str, list[int]], *shapes: list[int]) -> onnx.ModelProto:
    """A model of opset 18: x [2, 4] -> y0, y1, ... of these shapes."""
    made = [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    answers = [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, shape) for n, shape in enumerate(shapes)]
    graph = helper.make_graph(nodes, "g", [given], answers, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("nodes", "constants", "shapes"),
    [
        ([helper.make_node("ReduceMean", ["x", "axes"], ["y0"], keepdims=0)], {"axes": [1]}, [[2]]),
        ([helper.make_node("ReduceMax", ["x"], ["y0"], keepdims=0, noop_with_empty_axes=0)], {}, [[]]),
        ([helper.make_node("Split", ["x"], ["y0", "y1"], axis=1, num_outputs=2)], {}, [[2, 2], [2, 2]]),
        ([helper.make_node("Pad", ["x", "pads"], ["y0"])], {"pads": [0, 1, 0, 1]}, [[2, 6]]),
    ],
)
def test_opset_17_computes_what_opset_18_did(
    nodes: list[onnx.NodeProto], constants: dict[str, list[int]], shapes: list[list[int]]
) -> None:
    model = opset_18(nodes, constants, *shapes)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    lower_opset(model)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert {tensor.name for tensor in model.graph.initializer} <= {"pads"}
    for found, wanted in zip(ReferenceEvaluator(model).run(None, {"x": x}), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_what_opset_17_lacks_is_refused() -> None:
    model = opset_18(
        [helper.make_node("Pad", ["x", "pads", "", "axes"], ["y0"])], {"pads": [1, 1], "axes": [1]}, [2, 6]
    )
    with pytest.raises(onnx.checker.ValidationError, match="Pad"):
        lower_opset(model)


def test_a_number_of_rows_makes_every_shape_a_constant_and_none_leaves_it_free(exported: Exported) -> None:
    for value in (*exported.model.graph.input, *exported.model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == ROWS
    free = onnx.load(find_models()["default"].with_suffix(".onnx")).graph
    for value in (*free.input, *free.output):
        assert value.type.tensor_type.shape.dim[0].dim_param


def test_the_shipped_graphs_are_in_opset_17() -> None:
    default = find_models()["default"]
    for name in ("default.onnx", "default.fp16.onnx"):
        model = onnx.load(default.with_name(name))
        assert model.opset_import[0].version == OPSET
    assert "default.fp16.onnx" in read_spec(default).files
