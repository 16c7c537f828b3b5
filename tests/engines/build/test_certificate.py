from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec, load_engine
from engines.backends.scripted import ScriptedEngine, ScriptedState, each_label_in_turn
from engines.base import Engine
from engines.build.certificate import SNAPSHOTS, certify
from engines.build.scenes import video
from engines.spec import Certificate, TensorSpec

SPEC = EngineSpec(
    name="toy", labels=("a", "b", "c"), height=16, width=16, rate_hz=10.0, frames=4, mode="stream", fit="stretch",
    network="toy", backbone="none", channel_width=1.0, states=(TensorSpec("steps", (), "int64"),), files={},
)  # fmt: skip
Change = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


class Altered(ScriptedEngine):
    """A scripted engine whose logits [1, K] at each step since the start are changed."""

    def __init__(self, change: Change, mode: str = "stream") -> None:
        super().__init__(msgspec.structs.replace(SPEC, mode=mode), each_label_in_turn(3))
        self.change, self.step_number = change, 0

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: ScriptedState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        state.steps[fresh & active] = 0
        logits, ready = super()._step(frames, active, np.zeros_like(fresh), state)
        self.step_number += 1
        return self.change(logits.copy(), self.step_number), ready


def same(logits: NDArray[np.float32], _: int) -> NDArray[np.float32]:
    return logits


def of(change: Change, steps: int = 400, precision: str = "fp32", mode: str = "stream") -> Certificate:
    engine: Engine = Altered(change, mode)
    (certificate,) = certify(Altered(same, mode), [(engine, precision)], steps)  # type: ignore[list-item]
    return certificate


def test_equal_engines_get_a_certificate_over_all_steps_and_a_quarter_more_with_resets() -> None:
    certificate = of(same)
    assert certificate.fault is None
    assert (certificate.steps, certificate.max_probability_difference, certificate.top1_agreement) == (500, 0, 1)
    assert certificate.state_drift == {frames: 0 for frames in SNAPSHOTS if frames <= 400}
    assert certificate.runtime == certificate.reference == "given scores"


def test_one_wrong_answer_in_five_hundred_is_seen() -> None:
    certificate = of(lambda logits, step: np.roll(logits, 1, -1) if step == 321 else logits)
    assert certificate.max_probability_difference > 0.5
    assert certificate.top1_agreement == 499 / 500
    assert "a probability differs by 0.8" in str(certificate.fault)


def test_what_is_no_number_fails_instead_of_passing_unnoticed() -> None:
    for poison in (np.nan, np.inf):
        certificate = of(lambda logits, step, p=poison: logits * (p if step == 7 else 1), steps=20)  # type: ignore[misc]
        assert certificate.max_probability_difference == 1
        assert certificate.fault


def test_small_differences_that_turn_answers_fail_by_agreement() -> None:
    limits = msgspec.structs.replace(of(same, steps=20), precision="fp16", max_probability_difference=0.019)
    assert limits.fault is None
    assert msgspec.structs.replace(limits, top1_agreement=0.9951).fault is None
    assert "only 99.40% of the answers agree" in str(msgspec.structs.replace(limits, top1_agreement=0.994).fault)
    assert "more than the 0.02 allowed" in str(msgspec.structs.replace(limits, max_probability_difference=0.021).fault)


def test_labels_that_the_reference_holds_for_equal_may_change_places() -> None:
    flat: Change = lambda logits, _: logits * 0  # noqa: E731
    other: Change = lambda logits, _: logits * 0 + np.array([0, 0, 1e-3], np.float32)  # noqa: E731
    (certificate,) = certify(Altered(flat), [(Altered(other), "fp32")], 20)
    assert certificate.top1_agreement == 1
    assert certificate.fault is None


def test_states_that_drift_apart_in_float32_fail_and_growth_is_told() -> None:
    drifting = msgspec.structs.replace(of(same, steps=20), state_drift={10: 1e-6, 100: 2e-6, 1000: 8e-6})
    assert drifting.fault is None
    assert drifting.drifts
    assert "and it grows" in str(drifting)
    assert not msgspec.structs.replace(drifting, state_drift={10: 1e-6, 100: 3e-6, 1000: 2e-6}).drifts
    assert "a state differs by 0.01" in str(msgspec.structs.replace(drifting, state_drift={10: 0.01}).fault)
    assert msgspec.structs.replace(drifting, state_drift={10: 0.01}, precision="bf16").fault is None


def test_an_answer_too_early_is_a_difference() -> None:
    class Early(Altered):
        def _step(self, *inputs: object) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            logits, ready = super()._step(*inputs)  # type: ignore[arg-type]
            return logits, ready | True

    (certificate,) = certify(Altered(same), [(Early(same), "fp32")], 20)
    assert certificate.max_probability_difference == 1


def test_window_mode_compares_only_full_windows_and_counts_them() -> None:
    """The first T - 1 answers of a window mean nothing: they may differ."""
    assert of(same, steps=40, mode="window").steps == 50
    early: Change = lambda logits, step: np.roll(logits, 1, -1) if step < SPEC.frames else logits  # noqa: E731
    assert of(early, steps=40, mode="window").fault is None
    assert of(early, steps=40, mode="stream").fault


def test_an_old_sidecar_without_the_new_fields_is_read() -> None:
    old = b'{"backend":"openvino","precision":"fp32","steps":9,"max_probability_difference":0.0,"top1_agreement":1.0}'
    assert msgspec.json.decode(old, type=Certificate).state_drift == {}
    new = of(same, steps=20)
    assert msgspec.json.decode(msgspec.json.encode(new), type=Certificate) == new


def test_several_rows_are_compared_with_resets_and_pauses_of_their_own() -> None:
    reference, engine = (
        load_engine("default", backend, threads=1, precision="fp32") for backend in ("eager", "openvino")
    )
    (certificate,) = certify(reference, [(engine, "fp32")], 24, rows=(1, 3))
    assert 24 + 6 + 6 <= certificate.steps <= 24 + 6 + 8
    assert certificate.fault is None
    assert certificate.max_probability_difference > 0
    assert 0 < certificate.state_drift[10] < 1e-4


def test_the_video_moves_and_cuts_and_is_the_same_each_time() -> None:
    frames = np.stack(list(islice(video(48, 64, seed=0), 300))).astype(np.int16)
    again = np.stack(list(islice(video(48, 64, seed=0), 300)))
    assert np.array_equal(frames, again)
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert (change > 20).sum() >= 5  # cuts
    assert ((change > 1) & (change < 20)).sum() >= 100  # motion
    assert (change == 0).sum() >= 1  # a covered lens, or nothing that moves
