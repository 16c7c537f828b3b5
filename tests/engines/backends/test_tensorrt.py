"""The TensorRT engine on a fake GPU that does what is queued only when it is waited for."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import openvino as ov
import pytest

from engines import EngineError, find_models, load_engine
from engines.backends.cuda import Device, Stream
from engines.backends.openvino import core
from engines.backends.tensorrt import TensorRTEngine, build_engine, cache_key, machine_facts
from engines.spec import FLOAT32_NODE, read_spec, sha256

from ..toy_engine import build, flags, grey, install, toy, write_graph
from .fake_cuda import FakeDriver, Status
from .fake_tensorrt import Arrays, FakeTensorRT, step_tensors

YES, NO = flags(True, True), flags(False, False)
VERSIONS = ("8.6.1", "10.3.0", "11.0.0")


def test_the_banks_alternate_over_two_captured_graphs_and_rows_are_their_own(
    trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path
) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    assert len(cuda.graphs) == 2
    answers = [
        [array.tolist() for array in engine.step(grey(n, 10 * n), YES, flags(n == 1, n in {1, 3}), state)]
        for n in range(1, 6)
    ]
    assert [logits for logits, _ in answers] == [
        [[1, 2, 1], [10, 20, 1]], [[3, 6, 2], [30, 60, 2]], [[6, 12, 3], [30, 60, 1]],
        [[10, 20, 4], [70, 140, 2]], [[15, 30, 5], [120, 240, 3]],
    ]  # fmt: skip
    assert [ready for _, ready in answers] == [[n >= 3, n == 5] for n in range(1, 6)]
    assert cuda.launches == 5
    assert engine.device == "TensorRT 10.3.0, NVIDIA Fake, fp16, 2 rows"


def test_an_idle_row_keeps_its_state(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    for active in (YES, flags(True, False), flags(False, False), YES):
        logits, _ = engine.step(grey(1, 1), active, NO, state)
    assert logits.tolist() == [[3, 6, 3], [2, 4, 2]]


def test_a_new_state_is_zero_although_the_memory_was_not(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    assert {name: value.tolist() for name, value in engine.new_state(2).snapshot().items()} == {
        "sum": [[0, 0], [0, 0]],
        "seen": [0, 0],
    }


def test_a_state_is_saved_in_float32_and_goes_on_in_another_state_and_bank(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state, other = engine.new_state(2), engine.new_state(2)
    engine.step(grey(3, 5), YES, NO, other)
    for _ in range(2):
        engine.step(grey(3, 5), YES, NO, state)
    saved = state.snapshot()
    assert {name: value.dtype for name, value in saved.items()} == {"sum": np.float32, "seen": np.float32}
    expected = engine.step(grey(1, 2), YES, NO, state)[0].copy()
    other.restore(saved)
    assert np.array_equal(engine.step(grey(1, 2), YES, NO, other)[0], expected)
    assert saved["sum"].tolist() == [[6, 12], [10, 20]]
    with pytest.raises(EngineError, match="sum differs"):
        other.restore({**saved, "sum": saved["sum"][:1]})


def test_fewer_streams_than_the_engine_has_rows_run_and_more_are_refused(trt: FakeTensorRT, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path, rows=4))
    state = engine.new_state(1)
    for _ in range(3):
        logits, ready = engine.step(grey(7), flags(True), flags(False), state)
    assert (logits.tolist(), ready.tolist()) == ([[21, 42, 3]], [True])
    assert state.snapshot()["sum"].shape == (1, 2)
    state.restore(state.snapshot())
    assert engine.step(grey(7), flags(True), flags(False), state)[0].tolist() == [[28, 56, 4]]
    for rows in (0, 5):
        with pytest.raises(EngineError, match=rf"built for 4 rows and cannot run {rows} streams.*--rows {rows}"):
            engine.new_state(rows)


def test_memory_is_given_back_with_the_state_and_lives_as_long_as_an_answer(
    trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path
) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    answer, ready = engine.step(grey(1, 2), YES, NO, state)
    del state
    gc.collect()
    assert len(cuda.memory) == 2  # the pinned logits and ready
    assert answer[1].tolist() == [2, 4, 1]
    del answer, ready
    engine.close()
    assert (cuda.memory, cuda.graphs, cuda.queues) == ({}, {}, {})


@pytest.mark.parametrize("what", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_without_a_capture_every_step_is_queued_and_it_is_said_once(
    what: str, trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.fails[what] = Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    engine = TensorRTEngine(*build(tmp_path))
    state, _ = engine.new_state(2), engine.new_state(2)
    for _ in range(3):
        logits, _ = engine.step(grey(1, 2), YES, NO, state)
    assert logits.tolist() == [[3, 6, 3], [6, 12, 3]]
    assert cuda.launches == 0
    assert engine.device.endswith("2 rows, without CUDA graphs")
    assert [record.getMessage() for record in caplog.records if "without CUDA graphs" in record.getMessage()] == [
        f"{engine.path}: runs without CUDA graphs, somewhat slower: {what} failed: CUDA says "
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; if it happens again, look at `dmesg` and update the NVIDIA driver"
    ]


def test_whatever_fails_in_a_capture_ends_the_capture(cuda: FakeDriver) -> None:
    stream = Stream(Device())

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream.capture(interrupted)
    assert not cuda.captures
    stream.wait()


def test_a_run_without_graphs_can_be_asked_for(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    engine = TensorRTEngine(path, spec, graphs=False)
    state = engine.new_state(2)
    assert engine.step(grey(1, 2), YES, NO, state)[0].tolist() == [[1, 2, 1], [2, 4, 1]]
    assert (cuda.launches, cuda.graphs) == (0, {})
    assert engine.device.endswith("without CUDA graphs")


def test_graphs_that_the_sidecar_forbids_are_not_captured(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    assert spec.engine is not None
    spec = msgspec.structs.replace(spec, engine=msgspec.structs.replace(spec.engine, graphs=False))
    state = TensorRTEngine(path, spec).new_state(2)
    assert (len(state.ways), cuda.graphs) == (2, {})


def test_closing_gives_back_what_living_states_hold_and_may_be_repeated(
    trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path
) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    engine.step(grey(1, 2), YES, NO, state)
    engine.close()
    engine.close()
    assert len(cuda.memory) == 5  # what lies on the host, in arrays that somebody may still read
    assert (cuda.graphs, cuda.queues) == ({}, {})
    with pytest.raises(EngineError, match="the engine was closed; no state of it can step"):
        engine.step(grey(1, 2), YES, NO, state)
    del state
    gc.collect()
    assert cuda.memory == {}


def test_a_thread_that_steps_has_the_context_of_the_gpu(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
    engine = TensorRTEngine(*build(tmp_path))
    state = engine.new_state(2)
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(engine.step(grey(1, 2), YES, NO, state)[0].tolist()))
    thread.start()
    thread.join()
    assert answers == [[[1, 2, 1], [2, 4, 1]]]
    assert cuda.retained == 1


def test_a_build_may_take_half_of_the_memory_that_is_free(trt: FakeTensorRT, tmp_path: Path) -> None:
    build(tmp_path)
    assert trt.config.workspace == 3 << 30


def test_the_default_model_through_the_engines_run_path_equals_openvino(trt: FakeTensorRT, tmp_path: Path) -> None:
    """The fake GPU computes the real graph, three rows of it, for two streams out of step."""
    spec = read_spec(find_models()["default"])
    model = core().read_model(find_models()["default"].with_suffix(".onnx"))
    model.reshape({port.any_name: [3, *list(port.partial_shape)[1:]] for port in model.inputs})
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    trt.compute = lambda inputs: {port.any_name: value for port, value in compiled(inputs).items()}
    graph, out = tmp_path / "default.onnx", tmp_path / "default.engine"
    graph.write_text(json.dumps(step_tensors(spec, -1, "FLOAT")))
    facts = build_engine(graph, spec, out, rows=3, precision="fp32", progress=print)
    engine = TensorRTEngine(out, msgspec.structs.replace(spec, engine=facts))
    reference = load_engine("default", threads=1, precision="fp32")
    state, other = engine.new_state(2), reference.new_state(2)
    rng = np.random.default_rng(0)
    for n in range(12):
        frames = rng.integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
        active, fresh = flags(True, n % 3 != 1), flags(n in {0, 7}, n == 0)
        expected, expected_ready = reference.step(frames, active, fresh, other)
        logits, ready = engine.step(frames, active, fresh, state)
        assert np.abs(logits[active] - expected[active]).max() <= 1e-4
        assert np.array_equal(ready, expected_ready)
    for name, value in other.snapshot().items():
        assert np.abs(state.snapshot()[name] - value).max() <= 1e-4


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_built_and_run_by_every_version(
    version: str, cuda: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, cuda, version)
    told: list[str] = []
    layers = [
        ["conv", "CONVOLUTION"],
        [FLOAT32_NODE + "softmax", "SOFTMAX"],
        [FLOAT32_NODE + "cast", "CAST"],
        [FLOAT32_NODE + "where", "SELECT", ["BOOL", "FLOAT", "FLOAT"], "FLOAT"],
        [FLOAT32_NODE + "strongest", "TOPK", ["FLOAT"], "INT32"],
    ]
    path, spec = build(tmp_path, graph=write_graph(tmp_path, layers=layers), progress=told.append)
    assert "TF32" not in module.config.flags
    pinned = [layer.name for layer in module.network.layers if layer.precision is not None]
    if version.startswith("8"):
        assert module.config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
        assert pinned == ["float32/softmax"]
        assert module.network.layers[1].output_types == {0: module.DataType.FLOAT}
        assert module.config.sources == 0b1100
        assert module.config.previews == {"DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805"}
        assert len(told) == 2
    else:
        assert (module.config.flags, pinned, module.config.sources) == (set(), [], 0)
        assert told[1] == "Building engine: 2 steps"
    assert module.network.flags == 1
    assert told[0] == f"TensorRT {version} builds toy.fp16.onnx for NVIDIA Fake, fp16, 2 rows"
    assert msgspec.to_builtins(spec.engine) == {
        "tensorrt": version, "gpu": "NVIDIA Fake", "compute_capability": "8.7", "driver": "12.6",
        "precision": "fp16", "rows": 2, "graphs": True,
    }  # fmt: skip
    assert TensorRTEngine(path, spec).device == f"TensorRT {version}, NVIDIA Fake, fp16, 2 rows"


def test_a_float32_graph_is_built_without_float16_in_8_6(
    cuda: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install(monkeypatch, cuda, "8.6.1")
    build(tmp_path, precision="fp32")
    assert module.config.flags == set()


def test_timings_are_kept_beside_the_engine_and_a_broken_file_is_forgotten(trt: FakeTensorRT, tmp_path: Path) -> None:
    timings = tmp_path / "tensorrt-10.3.0-8.7.timings"
    timings.write_bytes(b"garbage")
    build(tmp_path)
    assert trt.config.timings.content == b""
    assert timings.read_bytes() == b"timed by 10.3.0"
    build(tmp_path)
    assert trt.config.timings.content == b"timed by 10.3.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tensorrt-10.3.0-8.7.timings",
        "toy.engine",
        "toy.fp16.onnx",
    ]


def test_every_fact_makes_another_key(trt: FakeTensorRT, cuda: FakeDriver, tmp_path: Path) -> None:
    graph = write_graph(tmp_path)
    facts = machine_facts(rows=2, precision="fp16")
    changes = {
        "tensorrt": "11.0.0", "gpu": "other", "compute_capability": "9.0", "driver": "13.0", "precision": "fp32",
        "rows": 3,
    }  # fmt: skip
    others = [msgspec.structs.replace(facts, **{name: value}) for name, value in changes.items()]
    keys = [cache_key(sha256(graph), each) for each in (facts, *others)]
    graph.write_text(graph.read_text() + " ")
    keys.append(cache_key(sha256(graph), facts))
    assert len(set(keys)) == 8
    assert keys[-1] == cache_key(sha256(graph), machine_facts(rows=2, precision="fp16"))


def test_the_tensors_of_torch_tensorrt_are_known_by_their_numbers(trt: FakeTensorRT, tmp_path: Path) -> None:
    path, spec = build(tmp_path)
    plan = json.loads(path.read_text())
    for tensor, name in zip(plan["inputs"][3:], ("state_0", "state_1"), strict=True):
        tensor[0] = name
    for number, tensor in enumerate(plan["outputs"]):
        tensor[0] = f"output{number}"
    path.write_text(json.dumps(plan))
    names = {"state_0": "sum", "state_1": "seen", "output0": "logits", "output1": "ready", "output2": "sum.out"}
    names |= {"output3": "seen.out"}
    trt.compute = lambda inputs: numbered(toy({names.get(name, name): value for name, value in inputs.items()}), names)
    engine = TensorRTEngine(path, spec)
    state = engine.new_state(2)
    engine.step(grey(1, 2), YES, NO, state)
    assert engine.step(grey(1, 2), YES, NO, state)[0].tolist() == [[2, 4, 2], [4, 8, 2]]


def numbered(outputs: Arrays, names: dict[str, str]) -> Arrays:
    return {number: outputs[name] for number, name in names.items() if name in outputs}
