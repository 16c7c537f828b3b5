"""What is OpenVINO's own: the graph of one row without masks, and compiled graphs kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines import EngineError, load_engine
from engines.backends import openvino
from engines.backends.openvino import OpenVINOEngine
from engines.spec import STATE_OUT, EngineSpec, read_spec

from ..conftest import assert_alike, make_model, moving_frames

GO, NO = np.ones(1, np.bool_), np.zeros(1, np.bool_)


def load(model: Path) -> OpenVINOEngine:
    engine = load_engine(model, "openvino", precision="fp32", threads=1)
    assert isinstance(engine, OpenVINOEngine)
    return engine


@pytest.fixture(scope="module")
def skipping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window that is evaluated at every third frame."""
    folder = tmp_path_factory.mktemp("hop")
    make_model(folder, "skipping", "tsm", "resnet18", mode="window", hop=3)
    return folder / "skipping.onnx"


def test_one_row_answers_as_one_of_two_does(model_folder: Path, skipping: Path) -> None:
    rng = np.random.default_rng(0)
    for model in (model_folder / "small.onnx", model_folder / "window.onnx", skipping):
        engine = load(model)
        alone, pair = engine.new_state(1), engine.new_state(2)
        for n, frames in enumerate(moving_frames(40, 2)):
            active, fresh = rng.random(2) > 0.2, rng.random(2) > 0.93
            both, both_ready = engine.step(frames, active, fresh, pair)
            one, ready = engine.step(frames[1:], active[1:], fresh[1:], alone)
            if active[1]:
                assert ready[0] == both_ready[1]
            if active[1] and (ready[0] or engine.spec.hop == 1):
                assert np.abs(one[0] - both[1]).max() <= 1e-4 * np.abs(both[1]).max(), f"{model.name}, step {n}"
            if n % 5 == 0:
                found, expected = alone.snapshot(), pair.snapshot()
                for name, value in found.items():
                    np.testing.assert_allclose(value[0], expected[name][1], rtol=1e-3, atol=1e-4, err_msg=name)


def test_many_rows_run_in_parts_and_answer_as_all_at_once_do(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "cheaper_alone", lambda *_: False)
    whole, parted = load(model_folder / "small.onnx"), load(model_folder / "small.onnx")
    at_once = whole.new_state(5)
    monkeypatch.setattr(openvino, "MOST", 2)
    in_parts = parted.new_state(5)
    assert (len(at_once.parts), len(in_parts.parts)) == (1, 3)
    assert sorted(parted.compiled) == [1, 2]  # whatever the number of rows, no larger graph is compiled or kept
    rng = np.random.default_rng(0)
    for n, frames in enumerate(moving_frames(12, 5)):
        active, fresh = rng.random(5) > 0.3, rng.random(5) > 0.9
        active[:2] = n != 4  # a part that takes no step
        expected, expected_ready = whole.step(frames, active, fresh, at_once)
        found, ready = parted.step(frames, active, fresh, in_parts)
        assert_alike(found[active], expected[active])
        assert (ready[active] == expected_ready[active]).all()
        if n % 4 == 0:  # what was in parts goes on as a whole, and the reverse
            kept = in_parts.snapshot(), at_once.snapshot()
            for name, value in kept[0].items():
                np.testing.assert_allclose(value, kept[1][name], rtol=1e-3, atol=1e-4, err_msg=name)
            at_once.restore(kept[0])
            in_parts.restore(kept[1])


def test_a_part_without_an_active_row_takes_no_step(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "MOST", 2)
    monkeypatch.setattr(openvino, "cheaper_alone", lambda *_: False)
    engine = load(model_folder / "small.onnx")
    state = engine.new_state(4)
    assert engine.together == 2  # whoever shares out the rows should know
    logits, ready = engine.step(
        moving_frames(1, 4)[0], np.array([False, False, True, False]), np.ones(4, np.bool_), state
    )
    assert [bool(row.any()) for row in logits] == [False, False, True, True]  # a part is computed whole
    assert not ready[:2].any()


def test_rows_that_cost_less_alone_run_alone_from_then_on(
    model_folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def measured(*parts: openvino.Part) -> bool:
        asked.append([part.rows.stop for part in parts])
        return len(asked) == 1

    monkeypatch.setattr(openvino, "cheaper_alone", measured)
    frames, go, no = moving_frames(1, 3)[0], np.ones(3, np.bool_), np.zeros(3, np.bool_)
    found = []
    for rows in (3, 3, 2):
        engine = load(model_folder / "small.onnx")
        state = engine.new_state(rows)
        found.append((engine.together, len(state.parts), engine.step(frames[:rows], go[:rows], no[:rows], state)[0]))
    assert asked == [[1, 3], [1, 2]]  # the second engine finds the choice of the first
    assert [(together, parts) for together, parts, _ in found] == [(1, 3), (1, 3), (2, 1)]
    assert_alike(found[2][2], found[0][2][:2])


class Timed:
    """A part of some rows whose steps take what it is told, the first ones long."""

    def __init__(self, spec: EngineSpec, rows: int, clock: list[float], took: list[float]) -> None:
        self.spec, self.rows, self.clock, self.took = spec, slice(0, rows), clock, [9.0, *took]

    def step(self, **arrays: NDArray[Any]) -> None:
        assert all(len(array) == 4 for array in arrays.values())
        self.clock[0] += self.took.pop(0) if len(self.took) > 1 else self.took[0]


@pytest.mark.parametrize(
    ("alone", "together", "cheaper"),
    [([0.02], [0.08], False), ([0.0199], [0.08], False), ([0.019], [0.08], True), ([0.019], [0.3, 0.07, 0.3], False)],
    ids=["as much", "within what measuring differs", "less", "less, but for one round"],
)
def test_rows_run_alone_only_if_that_costs_less(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, alone: list[float], together: list[float], cheaper: bool
) -> None:
    clock, spec = [0.0], read_spec(model_folder / "small.onnx")
    monkeypatch.setattr("engines.backends.openvino.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(openvino, "MEASURE_S", 100.0)
    parts = (Timed(spec, 1, clock, alone), Timed(spec, 4, clock, together))
    assert openvino.cheaper_alone(*parts) is cheaper  # type: ignore[arg-type]


def test_measuring_ends_when_it_took_its_time(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, spec = [0.0], read_spec(model_folder / "small.onnx")
    monkeypatch.setattr("engines.backends.openvino.time.perf_counter", lambda: clock[0])
    openvino.cheaper_alone(Timed(spec, 1, clock, [1.0]), Timed(spec, 4, clock, [1.0]))  # type: ignore[arg-type]
    assert clock[0] < 2 * (9 + 4) + 5  # a round that sets things up, one that counts, and no third


def test_a_flag_that_every_step_sets_is_set_in_the_graph_of_one_row_too() -> None:
    engine = load_engine("default", "openvino", precision="fp32", threads=1)
    frame, state = np.zeros((1, 112, 112, 3), np.uint8), engine.new_state(1)
    for set_by in ([True], [False]):  # fresh
        engine.step(frame, GO, np.array(set_by), state)
        assert state.snapshot()["tcm.mtdm.started"].tolist() == [1]


def test_a_fresh_row_alone_forgets_what_its_state_held_and_an_idle_one_nothing(model_folder: Path) -> None:
    engine = load(model_folder / "small.onnx")
    frames = moving_frames(3, 1)
    clean, spoiled = engine.new_state(1), engine.new_state(1)
    spoiled.restore({name: np.full_like(value, np.nan) for name, value in clean.snapshot().items()})
    engine.step(frames[0], NO, GO, spoiled)
    assert all(np.isnan(value).all() for value in spoiled.snapshot().values())
    for n, frame in enumerate(frames):
        expected = engine.step(frame, GO, NO, clean)[0].copy()
        assert_alike(engine.step(frame, GO, GO if n == 0 else NO, spoiled)[0], expected)
    before = spoiled.snapshot()
    engine.step(frames[0], NO, NO, spoiled)
    assert all(np.array_equal(value, before[name]) for name, value in spoiled.snapshot().items())


def test_a_new_state_may_be_made_while_another_steps(model_folder: Path) -> None:
    frames = moving_frames(60, 1)
    quiet = load(model_folder / "small.onnx")
    state = quiet.new_state(1)
    expected = [quiet.step(frame, GO, NO, state)[0].copy() for frame in frames]
    engine, errors = load(model_folder / "small.onnx"), []
    state = engine.new_state(1)

    def make_states() -> None:
        try:
            for rows in (1, 2, 3, 1, 2, 3):
                engine.new_state(rows).snapshot()
        except Exception as error:  # told by the test's own thread
            errors.append(error)

    maker = threading.Thread(target=make_states)
    maker.start()
    found = [engine.step(frame, GO, NO, state)[0].copy() for frame in frames]
    maker.join()
    assert not errors
    assert_alike(found, expected)


@pytest.fixture
def compiled_graphs(empty_cache: Path) -> Path:
    return empty_cache / "openvino"


def answer(model: Path, rows: int = 1) -> NDArray[np.float32]:
    """The logits of a newly loaded engine at one frame."""
    engine = load(model)
    go, no = np.ones(rows, np.bool_), np.zeros(rows, np.bool_)
    return engine.step(moving_frames(1, rows)[0], go, no, engine.new_state(rows))[0].copy()


def test_the_second_start_takes_the_compiled_graph_from_the_cache(
    model_folder: Path, compiled_graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder / "small.onnx"
    first = answer(model)
    assert len(list(compiled_graphs.iterdir())) == 1

    def refuse(engine: OpenVINOEngine, rows: int) -> Any:
        raise EngineError("compiled again")

    monkeypatch.setattr(OpenVINOEngine, "_compile", refuse)
    assert_alike(answer(model), first)
    with pytest.raises(EngineError, match="compiled again"):
        answer(model, rows=2)
    with pytest.raises(EngineError, match="compiled again"):
        answer(model_folder / "window.onnx")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-100],
        lambda content: (
            content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
        ),
        lambda content: hashlib.sha256(b"not a graph").digest() + b"not a graph",
    ],
    ids=["empty", "truncated", "one bit", "whole, but of another kind"],
)
def test_a_spoiled_cache_is_made_again(
    model_folder: Path, compiled_graphs: Path, spoil: Callable[[bytes], bytes]
) -> None:
    expected = answer(model_folder / "small.onnx")
    (kept,) = compiled_graphs.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(spoil(whole))
    assert_alike(answer(model_folder / "small.onnx"), expected)
    again = kept.read_bytes()  # made anew, with other names of its nodes
    assert hashlib.sha256(again[32:]).digest() == again[:32]
    assert len(again) == pytest.approx(len(whole), rel=0.01)


def test_a_cache_that_cannot_be_written_is_done_without(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(model_folder / "small.onnx")
    (tmp_path / "file").write_text("in the folder's place")
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path / "file"))
    assert_alike(answer(model_folder / "small.onnx"), expected)


def test_only_the_newest_compiled_graphs_are_kept(
    model_folder: Path, compiled_graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "KEPT", 1)
    answer(model_folder / "small.onnx")
    (first,) = compiled_graphs.iterdir()
    answer(model_folder / "window.onnx")
    (second,) = compiled_graphs.iterdir()
    assert first != second


def test_the_graph_of_one_row_has_no_masks_and_that_of_two_has(model_folder: Path) -> None:
    for model in ("small.onnx", "window.onnx"):
        engine = load(model_folder / model)
        assert engine.new_state(1).parts[0].inputs == ["frames"]
        assert engine.new_state(2).parts[0].inputs == ["frames", "active", "fresh"]


def test_a_state_that_would_become_a_constant_keeps_its_mask_and_is_written(model_folder: Path, tmp_path: Path) -> None:
    """As in graphs in which a mark is set to 1 with the first frame."""
    graph = onnx.load(model_folder / "small.onnx")
    mark = "tcm.mtdm.started"
    (choice,) = (node for node in graph.graph.node if mark + STATE_OUT in node.output)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
    choice.input[1] = "one"
    onnx.save(graph, tmp_path / "small.onnx")
    engine = OpenVINOEngine(tmp_path / "small.onnx", read_spec(model_folder / "small.onnx"), threads=1)
    state = engine.new_state(1)
    assert state.parts[0].inputs == ["frames", "active"]
    engine.step(moving_frames(1, 1)[0], GO, NO, state)
    assert state.snapshot()[mark] == 1


def test_a_signal_does_no_harm_after_engines_that_overlapped_were_closed() -> None:
    """Each OpenVINO runtime lends the thread a signal stack: of two, the one that is closed last gave back the other's,
    which was freed by then.
    """
    code = """
import os, signal
from engines import load_engine
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
one, two = load_engine("default", precision="fp32"), load_engine("default", precision="fp32")
one.new_state(1), two.new_state(1)
one.close()
del one
two.close()
del two
os.kill(os.getpid(), signal.SIGUSR1)
print(heard)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "[True]\n"), done.stderr


@hypothesis.settings(max_examples=8, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_graph_runs_or_is_refused_in_a_sentence(
    model_folder: Path, tmp_path: Path, places: list[tuple[int, int]]
) -> None:
    content = bytearray((model_folder / "small.onnx").read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    (tmp_path / "small.onnx").write_bytes(content)
    with contextlib.suppress(EngineError):
        engine = OpenVINOEngine(tmp_path / "small.onnx", read_spec(model_folder / "small.onnx"), threads=1)
        engine.step(moving_frames(1, 1)[0], GO, NO, engine.new_state(1))


@pytest.mark.parametrize("location", ["../../../../etc/passwd", "/etc/passwd", "/dev/zero", "weights.bin"])
def test_a_graph_that_points_at_other_files_is_refused(model_folder: Path, tmp_path: Path, location: str) -> None:
    graph = onnx.load(model_folder / "small.onnx")
    tensor = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    pointer = tensor.external_data.add()
    pointer.key, pointer.value = "location", location
    (tmp_path / "small.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(EngineError, match="OpenVINO cannot use this graph"):
        OpenVINOEngine(tmp_path / "small.onnx", read_spec(model_folder / "small.onnx"), threads=1).new_state(1)
