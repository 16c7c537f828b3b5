from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engines.networks
from engines import EngineError, EngineSpec, TensorSpec
from engines.backends.eager import EagerEngine
from engines.networks import BACKBONES, NETWORKS, Network, build_network
from engines.networks.stepper import StreamStepper

from ..conftest import moving_frames
from .contract import check_reach, check_rows, check_streaming_law, settle

Variant = tuple[str, str, dict[str, Any]]

VARIANTS: list[Variant] = [
    ("tsn", "resnet18", {}),
    ("tsm", "resnet18", {}),
    ("tsm", "resnet26", {}),
    ("tsm", "mobilenet_v2", {}),
    ("tsm", "efficientnet_lite0", {}),
    ("tsn", "efficientnet_lite0", {"pooling": "statistics"}),
    ("tsn", "efficientnet_lite0", {"pooling": "motion"}),
    ("tsm", "efficientnet_lite0", {"shift_from": 12, "pooling": "statistics"}),
    ("tcm", "resnet18", {}),
    ("tcm", "resnet26", {}),
    ("tcm", "resnet18", {"pooling": "statistics", "span": 5}),
    ("tcm", "mobilenet_v2", {}),
    ("tcm", "efficientnet_lite0", {}),
    ("tanet", "resnet26", {}),
    ("tanet", "mobilenet_v2", {}),
    ("stm", "resnet26", {}),
    ("gtdnet", "resnet26", {"aggregator": "avg"}),
    ("gtdnet", "resnet26", {"aggregator": "mta"}),
    ("gtdnet", "resnet26", {"aggregator": "lstm"}),
]
DEEP: list[Variant] = [
    ("gtdnet", "efficientnet_lite0", {}),
    ("tcm", "efficientnet_lite0", {"shift_from": 6, "pooling": "motion", "span": 5}),
]
"""Their reach is not measured: over so many norms in float32 the gradient of the oldest frames becomes zero."""
CLIP_ONLY: list[Variant] = [("gtdnet", "resnet26", {"aggregator": "bilstm"})]


def called(variant: object) -> str:
    if not isinstance(variant, tuple):
        return str(variant)
    return "-".join([variant[0], variant[1], *map(str, variant[2].values())])


def small(
    name: str, backbone: str, *, causal: bool, frames: int = 8, width: float = 0.25, **options: object
) -> Network:
    network = build_network(name, backbone, frames, 5, causal, width=width, dropout=0.0, **options)
    settle(network)
    return network


@pytest.mark.parametrize("variant", [*VARIANTS, *DEEP], ids=called)
def test_every_network_obeys_the_streaming_law(variant: Variant) -> None:
    name, backbone, options = variant
    check_streaming_law(small(name, backbone, causal=True, **options), torch.randn(2, 24, 3, 48, 64))


@pytest.mark.parametrize("name", ["tcm", "tanet"])
def test_the_streaming_law_holds_at_sixteen_frames_too(name: str) -> None:
    check_streaming_law(small(name, "resnet26", causal=True, frames=16), torch.randn(1, 48, 3, 32, 32))


@pytest.mark.parametrize("name", ["tanet", "stm", "gtdnet"])
def test_the_streaming_law_holds_in_deep_networks_whose_features_grow(name: str) -> None:
    network = build_network(name, "resnet50", 8, 5, causal=True, width=0.25).eval()
    check_streaming_law(network, torch.randn(1, 12, 3, 48, 48))


@pytest.mark.parametrize("variant", [*VARIANTS, *DEEP], ids=called)
def test_the_rows_of_a_step_are_streams_of_their_own(variant: Variant) -> None:
    name, backbone, options = variant
    check_rows(small(name, backbone, causal=True, **options), 48, 32)


@pytest.mark.parametrize("variant", VARIANTS, ids=called)
def test_the_state_of_every_network_can_be_saved_and_restored(variant: Variant, tmp_path: Path) -> None:
    name, backbone, options = variant
    network = small(name, backbone, causal=True, **options)
    torch.save(network.state_dict(), tmp_path / "small.pt")
    stepper = StreamStepper(network, 32, 32)
    states = zip(stepper.state_names, stepper.initial_state(1), strict=True)
    spec = EngineSpec(
        name="small", labels=("a", "b", "c", "d", "e"), height=32, width=32, rate_hz=10.0, frames=8, mode="stream",
        fit="stretch", network=name, backbone=backbone, channel_width=0.25, files={}, options=options,
        states=tuple(TensorSpec(key, tuple(value.shape[1:]), "float32") for key, value in states),
    )  # fmt: skip
    engine = EagerEngine(tmp_path / "small.pt", spec)
    state, frames = engine.new_state(2), moving_frames(10, 2, 32, 32)
    everyone, nobody = np.ones(2, np.bool_), np.zeros(2, np.bool_)
    for frame in frames[:7]:
        engine.step(frame, everyone, nobody, state)
    saved = state.snapshot()
    first = np.stack([engine.step(frame, everyone, nobody, state)[0] for frame in frames[7:]])
    elsewhere = engine.new_state(2)
    for place in (state, elsewhere):
        place.restore(saved)
        again = np.stack([engine.step(frame, everyone, nobody, place)[0] for frame in frames[7:]])
        assert np.abs(again - first).max() <= 1e-5 * np.abs(first).max()  # the layout in memory may differ


@pytest.mark.parametrize("variant", VARIANTS, ids=called)
def test_a_stream_remembers_exactly_the_frames_that_it_declares(variant: Variant) -> None:
    name, backbone, options = variant
    check_reach(small(name, backbone, causal=True, frames=4, **options))


@pytest.mark.parametrize("variant", [*VARIANTS, *CLIP_ONLY], ids=called)
def test_a_clip_looks_exactly_as_far_as_it_declares(variant: Variant) -> None:
    name, backbone, options = variant
    check_reach(small(name, backbone, causal=False, frames=12, **options))


def test_memories_add_up_over_the_blocks() -> None:
    behind = {
        called(variant): small(variant[0], variant[1], causal=True, **variant[2]).reach.behind for variant in VARIANTS
    }
    assert behind == {
        "tsn-resnet18": 0,
        "tsm-resnet18": 8,
        "tsm-resnet26": 8,
        "tsm-mobilenet_v2": 10,
        "tsm-efficientnet_lite0": 9,
        "tsn-efficientnet_lite0-statistics": 8,
        "tsn-efficientnet_lite0-motion": 8,
        "tsm-efficientnet_lite0-12-statistics": 3 + 8,
        "tcm-resnet18": 8 + 7 + 1,
        "tcm-resnet26": 8 + 7 + 1,
        "tcm-resnet18-statistics-5": 6 + 4 + 1 + 8,
        "tcm-mobilenet_v2": 10 + 7 + 1,
        "tcm-efficientnet_lite0": 9 + 7 + 1,
        "tanet-resnet26": 8 * 7,
        "tanet-mobilenet_v2": 10 * 7,
        "stm-resnet26": 8,
        "gtdnet-resnet26-avg": 8 * 8,
        "gtdnet-resnet26-mta": 8 * 8,
        "gtdnet-resnet26-lstm": inf,
    }


@pytest.mark.parametrize("variant", [*VARIANTS, *DEEP], ids=called)
def test_both_forms_have_the_same_parameters(variant: Variant) -> None:
    name, backbone, options = variant
    clip, causal = (small(name, backbone, causal=form, **options) for form in (False, True))
    causal.load_state_dict(clip.state_dict())
    assert clip.initial_state(1, 32, 32) == {}


@pytest.mark.parametrize("variant", [*VARIANTS, *DEEP, *CLIP_ONLY], ids=called)
def test_a_loss_on_a_clip_reaches_every_parameter(variant: Variant) -> None:
    name, backbone, options = variant
    network = build_network(name, backbone, 4, 5, causal=False, width=0.125, **options).train()
    network.frame_logits(torch.randn(2, 4, 3, 64, 64)).square().mean().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []


@torch.no_grad()
def test_a_network_without_temporal_ops_sees_each_frame_alone() -> None:
    network = small("tsn", "mobilenet_v2", causal=True)
    x = torch.randn(1, 6, 3, 48, 48)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(network.frame_logits(x)[:, order], network.frame_logits(x[:, order]))


def test_the_official_tsm_on_resnet101_shifts_every_second_block() -> None:
    network = build_network("tsm", "resnet101", 8, 5, causal=True, width=0.125, shift_every=2)
    names = network.eval().initial_state(1, 32, 32).keys()
    assert {"layer3.0.shift.last", "layer3.22.shift.last"} <= names
    assert not any(name.startswith("layer3.1.") for name in names)


@pytest.mark.parametrize(
    ("name", "backbone", "options", "message"),
    [
        ("tmcm", "resnet18", {}, "unknown network 'tmcm': did you mean 'tcm'"),
        ("tcm", "resnet19", {}, "unknown backbone 'resnet19': did you mean 'resnet18'"),
        ("tcm", "resnet18", {"shift_every": 2}, "unknown option of tcm on resnet18 'shift_every': known are dropout"),
        ("tsm", "resnet18", {"shiftevery": 2}, "did you mean 'shift_every'"),
        ("tsm", "resnet18", {"shift_every": 0}, "cannot build tsm on resnet18: shift_every is 1"),
        ("tanet", "resnet18", {}, "TANet is a part of bottleneck blocks and resnet18 has none; take one of resnet26"),
        ("stm", "resnet34", {}, "STM is a part of bottleneck blocks and resnet34 has none"),
        ("gtdnet", "resnet18", {}, "GTDNet is a part of bottleneck blocks"),
        ("gtdnet", "resnet26", {"aggregator": "lstmm"}, "unknown aggregator 'lstmm': did you mean 'lstm'"),
        ("gtdnet", "resnet26", {"aggregator": "bilstm"}, "bilstm reads the clip backwards too and has no causal form"),
        ("stm", "mobilenet_v2", {}, "stm needs a ResNet of bottlenecks; on mobilenet_v2 there are tsn, tsm, tcm"),
        ("tsm", "efficientnet_lite0", {"shift_every": 2}, "did you mean 'shift_from'"),
        ("tsn", "efficientnet_lite0", {"pooling": "max"}, "unknown pooling 'max': did you mean 'mean'"),
        ("tsm", "efficientnet_lite0", {"shift_from": 17}, "shift_from is a block from 1 to 16, not 17"),
    ],
)
def test_what_cannot_be_built_is_told_with_what_can(
    name: str, backbone: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        build_network(name, backbone, frames=8, classes=5, causal=True, **options)


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        ("tcm", 2, "TCM needs at least 4 frames"),
        ("tanet", 1, "TANet mixes neighbouring frames and needs at least 2"),
        ("gtdnet", 1, "GTDNet compares frames with their window"),
        ("tsn", 0, "frames and classes are 1 or more, not 0 and 5"),
    ],
)
def test_a_clip_that_is_too_short_is_refused(name: str, frames: int, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        build_network(name, "resnet26", frames, 5, causal=True)


def test_every_network_is_built_on_every_backbone_that_has_a_place_for_it() -> None:
    built = set()
    small_ones = [name for name in BACKBONES if name not in ("resnet50", "resnet101")]  # as resnet26, only slower
    for name in NETWORKS:
        for backbone in small_ones:
            try:
                build_network(name, backbone, 8, 5, causal=True, width=0.125)
            except EngineError:
                continue
            built.add((name, backbone))
    light = {"mobilenet_v2", "efficientnet_lite0"}
    expected = {(name, backbone) for name in ("tsn", "tsm", "tcm") for backbone in small_ones}
    expected |= {(name, backbone) for name in ("tanet", "gtdnet") for backbone in {"resnet26", *light}}
    assert built == expected | {("stm", "resnet26")}


def test_only_the_public_names_are_public() -> None:
    assert sorted(engines.networks.__all__) == engines.networks.__all__
    assert sorted(engines.__all__) == engines.__all__
