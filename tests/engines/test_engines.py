"""What every backend promises, and that they agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import Engine, EngineError, load_engine, probabilities

from .conftest import assert_alike, moving_frames

BACKENDS = [
    ("small.onnx", "fp32"), ("small.onnx", "auto"), ("small.pt", "auto"),
    ("window.onnx", "fp32"), ("window.pt", "auto"),
]  # fmt: skip


def flags(*values: bool) -> NDArray[np.bool_]:
    return np.array(values)


@pytest.fixture(params=BACKENDS, ids="-".join)
def engine(request: pytest.FixtureRequest, model_folder: Path) -> Iterator[Engine]:
    name, precision = request.param
    engine = load_engine(model_folder / name, precision=precision, threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("name", "precision", "limit"), [("small", "fp32", 1e-3), ("small", "auto", 2e-2), ("window", "fp32", 1e-3)]
)
def test_the_exported_graph_equals_the_eager_network_over_200_steps(
    model_folder: Path, name: str, precision: str, limit: float
) -> None:
    reference = load_engine(model_folder / f"{name}.pt", threads=1)
    exported = load_engine(model_folder / f"{name}.onnx", precision=precision, threads=2)
    state, other = reference.new_state(2), exported.new_state(2)
    rng = np.random.default_rng(1)
    for n, frames in enumerate(moving_frames(200, 2)):
        active, fresh = flags(True, rng.random() > 0.3), flags(n % 50 == 0, n in {0, 120})
        p, ready = reference.step(frames, active, fresh, state)
        q, also_ready = exported.step(frames, active, fresh, other)
        assert np.abs(probabilities(p)[active] - probabilities(q)[active]).max() <= limit, f"step {n}"
        assert np.array_equal(ready[active], also_ready[active])


def test_a_state_can_be_saved_and_restored(engine: Engine) -> None:
    frames, state = moving_frames(12, 2), engine.new_state(2)
    idle, go = flags(False, False), flags(True, True)
    for frame in frames[:9]:
        engine.step(frame, go, idle, state)
    saved = state.snapshot()
    assert {name: value.shape for name, value in saved.items()} == {t.name: (2, *t.shape) for t in engine.spec.states}
    first = [engine.step(frame, go, idle, state)[0].copy() for frame in frames[9:]]
    state.restore(saved)
    again = [engine.step(frame, go, idle, state)[0].copy() for frame in frames[9:]]
    assert_alike(again, first)
    elsewhere = engine.new_state(2)
    elsewhere.restore(saved)
    moved = [engine.step(frame, go, idle, elsewhere)[0].copy() for frame in frames[9:]]
    assert_alike(moved, first)


def test_probabilities_leave_out_the_share_of_what_the_model_does_not_know() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [300.0, 0.0, -300.0]], np.float32)
    energies = np.log(np.exp(logits[0].astype(float)).sum()), 300.0
    plain, with_unknown = probabilities(logits), probabilities(logits, 4.0)
    np.testing.assert_allclose(plain.sum(-1), 1, rtol=1e-6)
    for row, energy in enumerate(energies):
        known = 1 / (1 + np.exp(4 - energy))
        np.testing.assert_allclose(with_unknown[row], plain[row] * known, rtol=1e-5)
    assert probabilities(logits, 1000.0).sum() == 0
    assert with_unknown.dtype == plain.dtype == np.float32


def test_two_states_of_one_engine_are_independent(engine: Engine) -> None:
    frames = moving_frames(10, 1)
    one, other = engine.new_state(1), engine.new_state(1)
    go, no = flags(True), flags(False)
    expected = [engine.step(frame, go, no, one)[0].copy() for frame in frames]
    third = engine.new_state(1)
    for frame, logits in zip(frames, expected, strict=True):
        engine.step(255 - frame, go, no, other)
        assert np.allclose(engine.step(frame, go, no, third)[0], logits, atol=1e-5)


def test_ready_comes_with_the_last_frame_of_the_window_and_again_after_a_fresh_start(engine: Engine) -> None:
    state = engine.new_state(1)
    ready = [
        bool(engine.step(frame, flags(True), flags(n == 12), state)[1][0])
        for n, frame in enumerate(moving_frames(22, 1))
    ]
    assert ready == [False] * 7 + [True] * 5 + [False] * 7 + [True] * 3


@pytest.mark.parametrize(
    ("frames", "active", "message"),
    [
        (np.zeros((1, 48, 48, 3), np.uint8), flags(True), r"frames is uint8 \[1, 48, 48, 3\], but \w+ takes uint8"),
        (np.zeros((1, 48, 64, 3), np.float32), flags(True), "frames is float32"),
        (np.zeros((2, 48, 64, 3), np.uint8), flags(True), r"takes uint8 \[1, 48, 64, 3\]"),
        (np.zeros((1, 48, 64, 3), np.uint8), flags(True, True), r"active is bool \[2\]"),
    ],
)
def test_a_wrong_shape_or_type_is_refused(
    engine: Engine, frames: NDArray[np.uint8], active: NDArray[np.bool_], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        engine.step(frames, active, flags(False), engine.new_state(1))


def test_a_snapshot_of_another_row_count_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="with 1 rows"):
        engine.new_state(1).restore(engine.new_state(2).snapshot())
