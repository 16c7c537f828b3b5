"""What the torch engine does on a GPU, as far as a CPU can tell: the bookkeeping around its graphs, and half precision.

`Recorded` stands for CUDA graphs. As with them, a recording computes nothing, and a replay reads the tensors that were
there at the recording, with whatever is in them by then, and writes to the same ones each time.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from engines import EngineError, find_models, probabilities
from engines.backends.eager import CudaGraphs, EagerEngine, Step, TorchEngine, for_gpu, load_network
from engines.base import Engine
from engines.build.certificate import certify
from engines.build.scenes import video
from engines.networks import Network, build_network
from engines.networks.stepper import Stepper, make_stepper
from engines.spec import LIMIT, EngineSpec, TensorSpec, read_spec

from ..conftest import LABELS, assert_alike, moving_frames
from ..networks.contract import settle


class Recorded:
    def __init__(self, failure: str | None = None) -> None:
        self.failure = failure
        self.recordings = 0
        self.replays: list[int] = []  # which recording, in the order of the steps

    def pin(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def record(self, step: Step, into: Sequence[Tensor]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        if self.failure:
            raise RuntimeError(self.failure)
        outputs = tuple(torch.full_like(value, 77) for value in step())
        number = self.recordings
        self.recordings += 1

        @torch.inference_mode()
        def replay() -> None:
            self.replays.append(number)
            for place, value in zip(outputs, step(), strict=True):
                place.copy_(value)
            for place, value in zip(into, outputs[1:], strict=False):
                place.copy_(value)

        return replay, outputs


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    """TCM as a stream and TSM in clip form, with random weights whose logits are neither flat nor extreme."""
    made = {}
    for mode, name in (("stream", "tcm"), ("window", "tsm")):
        network = made[mode] = build_network(name, "resnet18", 8, len(LABELS), mode == "stream", width=0.25)
        settle(network)
        with torch.no_grad():
            network.fc.weight.mul_(2 / network.frame_logits(torch.randn(1, 8, 3, 48, 64)).std())
    return made


def make_engine(network: Network, graphs: Recorded | None = None, precision: str = "fp32", hop: int = 1) -> TorchEngine:
    stepper = make_stepper(copy.deepcopy(network), 48, 64, hop)
    states = zip(stepper.state_names, stepper.initial_state(1), strict=True)
    spec = EngineSpec(
        name="small", labels=LABELS, height=48, width=64, rate_hz=10.0, frames=8, fit="stretch", network="tcm",
        mode="stream" if network.causal else "window", backbone="resnet18", channel_width=0.25, files={}, hop=hop,
        states=tuple(TensorSpec(name, tuple(value.shape[1:]), "float32") for name, value in states),
    )  # fmt: skip
    engine = TorchEngine(stepper, spec, "cpu", precision)
    if graphs:
        engine.recorder, engine.graphs = (lambda: graphs), hop == 1
    return engine


@pytest.mark.parametrize("mode", ["stream", "window"])
def test_replayed_steps_are_the_plain_ones(networks: dict[str, Network], mode: str) -> None:
    plain, replayed = make_engine(networks[mode]), make_engine(networks[mode], graphs := Recorded())
    state, other = plain.new_state(2), replayed.new_state(2)
    rng = np.random.default_rng(0)
    for n, frames in enumerate(moving_frames(20, 2)):
        active, fresh = rng.random(2) < 0.8, np.array([n == 0, n % 9 == 0])
        expected, expected_ready = plain.step(frames, active, fresh, state)
        logits, ready = replayed.step(frames, active, fresh, other)
        assert_alike(logits, expected)
        assert np.array_equal(ready, expected_ready)
    assert graphs.replays == [0, 1] * 10
    for key, value in state.snapshot().items():
        assert_alike(other.snapshot()[key], value)


class Turned(torch.nn.Module):
    """A stepper that leaves its states in another layout, as convolutions do on some processors."""

    def __init__(self, stepper: Stepper) -> None:
        super().__init__()
        self.stepper = stepper

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        logits, ready, *after = self.stepper(*inputs)
        return logits, ready, *(value.movedim(-1, 0).contiguous().movedim(0, -1) for value in after)


def test_a_state_has_the_layout_that_it_began_with_whatever_a_step_leaves(networks: dict[str, Network]) -> None:
    engine = make_engine(networks["stream"])
    state = engine.new_state(2)
    state.stepper = cast(Stepper, Turned(state.stepper))
    layouts = [value.stride() for value in state.tensors]
    engine.step(moving_frames(1, 2)[0], np.ones(2, np.bool_), np.zeros(2, np.bool_), state)
    assert [value.stride() for value in state.tensors] == layouts


def test_states_with_graphs_have_their_own_memory_and_can_be_put_aside_at_any_step(
    networks: dict[str, Network],
) -> None:
    engine = make_engine(networks["stream"], graphs := Recorded())
    frames, go, no = moving_frames(9, 1), np.ones(1, np.bool_), np.zeros(1, np.bool_)
    one, other = engine.new_state(1), engine.new_state(1)
    snapshots, answers = [one.snapshot()], []
    assert all(not value.any() for value in snapshots[0].values())
    for frame in frames:
        answers.append(engine.step(frame, go, no, one)[0].copy())
        engine.step(255 - frame, go, no, other)
        snapshots.append(one.snapshot())
    assert graphs.recordings == 4
    for start in (0, 3, 4):  # restored into either bank
        other.restore(snapshots[start])
        for frame, expected in zip(frames[start:], answers[start:], strict=True):
            assert_alike(engine.step(frame, go, no, other)[0], expected)


def test_a_step_that_cannot_be_recorded_is_run_plainly_and_that_is_told(
    networks: dict[str, Network], caplog: pytest.LogCaptureFixture
) -> None:
    plain = make_engine(networks["stream"])
    engine = make_engine(networks["stream"], Recorded("operation not permitted when stream is capturing\nstack ..."))
    state, other = plain.new_state(1), engine.new_state(1)
    engine.new_state(3)
    for frame in moving_frames(4, 1):
        expected, _ = plain.step(frame, np.ones(1, np.bool_), np.zeros(1, np.bool_), state)
        logits, _ = engine.step(frame, np.ones(1, np.bool_), np.zeros(1, np.bool_), other)
        assert_alike(logits, expected)
    assert engine.device == plain.device + ", without CUDA graphs"
    assert "are slow: operation not permitted when stream is capturing" in caplog.messages[0]
    assert "stack" not in caplog.text


def test_memory_that_cannot_be_pinned_is_used_as_it_is(networks: dict[str, Network]) -> None:
    class Unpinned(Recorded):
        def pin(self, tensor: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    engine = make_engine(networks["stream"], graphs := Unpinned())
    state = engine.new_state(1)
    engine.step(moving_frames(1, 1)[0], np.ones(1, np.bool_), np.zeros(1, np.bool_), state)
    assert graphs.replays == [0]
    assert "without" not in engine.device


def test_a_step_that_sometimes_does_nothing_is_not_recorded(networks: dict[str, Network]) -> None:
    engine = make_engine(networks["window"], graphs := Recorded(), hop=3)
    state = engine.new_state(1)
    for frame in moving_frames(10, 1):
        _, ready = engine.step(frame, np.ones(1, np.bool_), np.zeros(1, np.bool_), state)
    assert graphs.recordings == 0
    assert ready.tolist() == [False]


def test_the_first_bank_lies_in_memory_as_a_step_leaves_its_states(networks: dict[str, Network]) -> None:
    engine = make_engine(for_gpu(networks["stream"]), Recorded())
    state = engine.new_state(2)
    (_, there), (_, back) = state.ways
    assert [value.stride() for value in there[1:]] == [value.stride() for value in back[1:]]
    assert [value.stride() for value in state.tensors] == [value.stride() for value in there[1:]]


def test_a_recording_that_fails_leaves_the_thread_on_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeStream:
        def wait_stream(self, other: object) -> None: ...

    current = [FakeStream()]
    own = current[0]

    @contextlib.contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        before, current[0] = current[0], stream
        yield
        current[0] = before

    @contextlib.contextmanager
    def graph(_graph: object, _pool: object, stream: FakeStream, **_options: object) -> Iterator[None]:
        current[0] = stream
        yield
        raise RuntimeError("the capture was invalidated")

    for name, stand_in in {
        "Stream": FakeStream, "graph_pool_handle": tuple, "current_stream": lambda: current[0], "stream": on,
        "CUDAGraph": object, "graph": graph, "set_stream": lambda stream: current.__setitem__(0, stream),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    with pytest.raises(RuntimeError, match="invalidated"):
        CudaGraphs().record(lambda: (torch.zeros(1),), into=())
    assert current == [own]


def test_half_precision_stays_close_and_its_states_fit_float32_engines(networks: dict[str, Network]) -> None:
    whole = make_engine(networks["stream"])
    half = make_engine(for_gpu(networks["stream"]), Recorded(), precision="fp16")
    state, other = whole.new_state(1), half.new_state(1)
    for frame in moving_frames(16, 1):
        p, _ = whole.step(frame, np.ones(1, np.bool_), np.zeros(1, np.bool_), state)
        q, _ = half.step(frame, np.ones(1, np.bool_), np.zeros(1, np.bool_), other)
        assert q.dtype == np.float32
        assert np.abs(probabilities(p) - probabilities(q)).max() < 2e-2
    saved = other.snapshot()
    assert {value.dtype for value in saved.values()} == {np.dtype(np.float32)}
    state.restore(saved)
    half_again = half.new_state(1)
    half_again.restore(saved)
    assert all(np.array_equal(value, saved[name]) for name, value in half_again.snapshot().items())


NETWORKS: list[tuple[str, str, dict[str, Any]]] = [
    ("tsn", "efficientnet_lite0", {"pooling": "statistics"}),
    ("tsm", "mobilenet_v2", {}),
    ("tcm", "resnet18", {}),
    ("tcm", "mobilenet_v2", {}),
    ("tanet", "resnet26", {}),
    ("stm", "resnet26", {}),
    ("gtdnet", "resnet26", {}),
]


@pytest.mark.parametrize(("name", "backbone", "options"), NETWORKS)
def test_every_network_holds_its_certificate_in_half_precision(
    name: str, backbone: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    network = build_network(name, backbone, 8, len(LABELS), causal=True, width=0.25, **options)
    settle(network)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.train().momentum = 0.5
        for frame in islice(video(48, 64, seed=1), 0, 40, 8):  # as trained ones, the norms know what they see
            network.frame_logits((torch.from_numpy(frame).permute(2, 0, 1)[None, None] - 115.0) / 58)
        network.eval()
        network.fc.weight.mul_(2 / network.frame_logits(torch.randn(1, 8, 3, 48, 64)).std())
    half = make_engine(for_gpu(network), precision="fp16")
    (certificate,) = certify(make_engine(network), [(half, "fp16")], steps=16)
    assert certificate.fault is None
    assert certificate.max_probability_difference > 0


def answers(engine: Engine, first: int, last: int) -> np.ndarray:
    """The probabilities of a stream over a part of the drawn video."""
    state, on = engine.new_state(1), np.ones(1, np.bool_)
    frames = islice(video(engine.spec.height, engine.spec.width, seed=0), first, last)
    return np.stack([probabilities(engine.step(frame[None], on, ~on, state)[0]) for frame in frames])


def test_no_near_tie_of_displacements_costs_the_shipped_model_its_certificate_in_half_precision() -> None:
    """Where another of two equally strong displacements wins, an answer may hang on it: at the 14th frame here."""
    weights = find_models()["default"].with_suffix(".pt")
    spec = read_spec(weights)
    stepper = make_stepper(for_gpu(load_network(weights, spec)), spec.height, spec.width)
    half = TorchEngine(stepper, spec, "cpu", "fp16")
    difference = np.abs(answers(half, 230, 246) - answers(EagerEngine(weights, spec, device="cpu"), 230, 246))
    assert 0 < difference.max() < LIMIT / 3


def test_a_precision_that_torch_lacks_here_is_refused(networks: dict[str, Network]) -> None:
    with pytest.raises(EngineError, match="fp32 or fp16, not in 'int8'"):
        make_engine(networks["stream"], precision="int8")
