from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engines import EngineError
from engines.networks import build_network, tcm
from engines.networks.stepper import Stepper, StreamStepper, WindowStepper, make_stepper

from ..conftest import moving_frames
from .contract import assert_near, settle

YES, NO = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)


def make_stream(name: str = "tcm") -> StreamStepper:
    network = build_network(name, "resnet18", 8, 5, causal=True, width=0.25)
    settle(network)
    return StreamStepper(network, 48, 64).eval()


def frames(count: int) -> list[Tensor]:
    return [torch.from_numpy(frame) for frame in moving_frames(count, 2)]


def clip_of(steps: list[Tensor]) -> Tensor:
    """Camera bytes [B, H, W, BGR] of each step -> normalised clip [B, T, RGB, H, W], by the definition."""
    rgb = torch.stack(steps, 1)[..., [2, 1, 0]].float() / 255
    return ((rgb - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("name", ["tsn", "tsm", "tcm"])
@torch.no_grad()
def test_steps_from_camera_bytes_equal_the_whole_clip(name: str) -> None:
    stepper, steps = make_stream(name), frames(20)
    whole = stepper.network.frame_logits(clip_of(steps))
    state = stepper.initial_state(2)
    for t, frame in enumerate(steps):
        logits, ready, *state = stepper(frame, YES, NO, *state)
        assert (logits - whole[:, t]).abs().max() <= 1e-4 * whole.abs().max()
        assert ready.tolist() == [t >= 7, t >= 7]


@torch.no_grad()
def test_a_fresh_row_starts_anew_whatever_its_state_held() -> None:
    stepper, steps = make_stream(), frames(12)
    garbage = [torch.full_like(value, torch.nan) for value in stepper.initial_state(2)]
    state, reference = garbage, list(stepper.initial_state(2))
    for t, frame in enumerate(steps):
        logits, ready, *state = stepper(frame, YES, YES if t == 0 else NO, *state)
        expected, expected_ready, *reference = stepper(frame, YES, NO, *reference)
        assert_near(logits, expected)
        assert torch.equal(ready, expected_ready)


@torch.no_grad()
def test_rows_may_be_out_of_step_and_an_idle_row_keeps_its_state_bit_for_bit() -> None:
    stepper, steps = make_stream(), frames(24)
    alone = stepper.network.frame_logits(clip_of(steps[::2]))[1]
    state = stepper.initial_state(2)
    for t, frame in enumerate(steps):
        active = torch.tensor([True, t % 2 == 0])
        if t % 2:
            frame[1] = 255  # what an idle row is given must not matter
        before = [value[1].clone() for value in state]
        logits, ready, *state = stepper(frame, active, NO, *state)
        if t % 2:
            assert all(torch.equal(old, new[1]) for old, new in zip(before, state, strict=True))
        else:
            assert (logits[1] - alone[t // 2]).abs().max() <= 1e-4 * alone.abs().max()
    assert ready.tolist() == [True, True]


@torch.no_grad()
def test_an_idle_row_full_of_nan_harms_nobody() -> None:
    stepper, steps = make_stream(), frames(3)
    state = [value.clone() for value in stepper.initial_state(2)]
    clean = list(stepper.initial_state(2))
    for value in state:
        value[1] = torch.nan
    for frame in steps:
        logits, _, *state = stepper(frame, torch.tensor([True, False]), NO, *state)
        expected, _, *clean = stepper(frame, torch.tensor([True, False]), NO, *clean)
        assert_near(logits[0], expected[0])
        assert all(value[1].isnan().all() for value in state)


NETWORKS = [
    ("tsn", "resnet18", {}), ("tsm", "resnet18", {}), ("tsm", "mobilenet_v2", {}), ("tcm", "resnet18", {}),
    ("tanet", "resnet26", {}), ("stm", "resnet26", {}), ("gtdnet", "resnet26", {"aggregator": "bilstm"}),
]  # fmt: skip


def make_window(name: str, backbone: str = "resnet18", hop: int = 1, length: int = 8, **options: Any) -> Stepper:
    network = build_network(name, backbone, length, 5, causal=False, width=0.25, **options)
    settle(network)
    return make_stepper(network, 48, 64, hop).eval()


@pytest.mark.parametrize(("name", "backbone", "options"), NETWORKS)
@torch.no_grad()
def test_every_window_equals_the_clip_network_on_its_frames(name: str, backbone: str, options: dict[str, Any]) -> None:
    stepper, steps = make_window(name, backbone, **options), frames(11)
    state: list[Tensor] = list(stepper.initial_state(2))
    for t, frame in enumerate(steps):
        logits, ready, *state = stepper(frame, YES, NO, *state)
        assert ready.tolist() == [t >= 7, t >= 7]
        if t >= 7:
            expected = stepper.network.frame_logits(clip_of(steps[t - 7 : t + 1])).mean(1)
            assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "backbone", "shape"),
    [("tcm", "resnet18", (16, 12, 16)), ("tsm", "mobilenet_v2", (8, 12, 16)), ("tsn", "resnet18", (128, 2, 2))],
)
def test_the_window_keeps_what_is_computed_before_the_first_temporal_op(
    name: str, backbone: str, shape: tuple[int, ...]
) -> None:
    stepper = make_window(name, backbone)
    assert stepper.state_names == ("window", "seen")
    assert stepper.initial_state(3)[0].shape == (3, 8, *shape)


@torch.no_grad()
def test_rows_of_windows_are_independent_and_an_idle_one_keeps_its_state_bit_for_bit() -> None:
    stepper, steps = make_window("tsm", length=4), frames(14)
    state: list[Tensor] = [torch.full_like(value, torch.nan) for value in stepper.initial_state(2)]
    for t, frame in enumerate(steps):
        active, fresh = torch.tensor([True, t % 2 == 0]), torch.tensor([t == 0, t in {0, 6}])
        before = [value[1].clone() for value in state]
        logits, ready, *state = stepper(frame, active, fresh, *state)
        if t % 2:
            assert all(torch.equal(old, new[1]) for old, new in zip(before, state, strict=True))
        if t == 12:  # the second row's fourth frame after its fresh start
            assert ready.tolist() == [True, True]
            ours = stepper.network.frame_logits(clip_of(steps[9:13]))[0].mean(0)
            other = stepper.network.frame_logits(clip_of(steps[6:13:2]))[1].mean(0)
            assert (logits - torch.stack([ours, other])).abs().max() <= 1e-4 * logits.abs().max()
        elif 6 < t < 12:
            assert not ready[1]


@torch.no_grad()
def test_with_a_hop_a_window_is_ready_and_evaluated_only_at_each_hop() -> None:
    stepper, every = make_window("tsm", hop=3, length=4), make_window("tsm", length=4)
    evaluations: list[None] = []
    stepper.network.get_submodule("fc").register_forward_hook(lambda *_: evaluations.append(None))
    state, reference = list(stepper.initial_state(2)), list(every.initial_state(2))
    for t, frame in enumerate(frames(12)):
        logits, ready, *state = stepper(frame, YES, NO, *state)
        expected, _, *reference = every(frame, YES, NO, *reference)
        assert ready.tolist() == [t in {3, 6, 9}] * 2
        if t in {3, 6, 9}:
            assert_near(logits, expected)
    assert len(evaluations) == 3


def test_each_mode_needs_its_form_and_a_hop_needs_a_window() -> None:
    causal, clip = (build_network("tsm", "resnet18", 8, 5, form, width=0.25) for form in (True, False))
    with pytest.raises(ValueError, match="causal form"):
        StreamStepper(clip, 48, 64)
    with pytest.raises(ValueError, match="clip form"):
        WindowStepper(causal, 48, 64)
    with pytest.raises(EngineError, match="a stream answers at every frame"):
        make_stepper(causal, 48, 64, hop=2)
    with pytest.raises(EngineError, match="1 or more"):
        make_stepper(clip, 48, 64, hop=0)


class OperationCounter(TorchDispatchMode):
    """Counts the operations that torch runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def operations(stepper: Stepper) -> int:
    """How many operations a step takes: what an exported graph has, but for what the exporter folds away."""
    state = stepper.initial_state(1)
    counter = OperationCounter()
    with counter:
        stepper(torch.zeros(1, 48, 64, 3, dtype=torch.uint8), YES[:1], NO[:1], *state)
    return counter.count


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("name", "backbone", "options"), NETWORKS)
def test_a_step_takes_as_many_operations_whatever_t_is(
    name: str, backbone: str, options: dict[str, Any], causal: bool
) -> None:
    if options.get("aggregator") == "bilstm":
        causal = False
    counts = [
        operations(make_stepper(build_network(name, backbone, length, 5, causal, 0.25, **options).eval(), 48, 64))
        for length in (8, 16)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("causal", [True, False])
def test_a_step_takes_as_many_operations_whatever_the_number_of_displacements(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = make_stepper(build_network("tcm", "resnet18", 8, 5, causal, 0.25).eval(), 48, 64)
    many = operations(stepper)
    monkeypatch.setattr(tcm, "REACH", 9)  # the map's six rows are one band with both
    monkeypatch.setattr(tcm, "PATCH", 19)
    assert operations(stepper) == many
