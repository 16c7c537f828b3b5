from __future__ import annotations

import pytest
import torch

import engines.networks
from engines import EngineError
from engines.networks import Network, build_network

from .contract import check_causality, check_streaming_law, settle

VARIANTS = [("tsn", "resnet18"), ("tsm", "resnet18"), ("tsm", "resnet50"), ("tcm", "resnet18"), ("tcm", "resnet50")]


def small(name: str, backbone: str, *, causal: bool, frames: int = 8) -> Network:
    network = build_network(name, backbone, frames, 5, causal, width=0.25, dropout=0.0)
    settle(network)
    return network


@pytest.mark.parametrize(("name", "backbone"), VARIANTS)
@pytest.mark.parametrize("frames", [8, 16])
def test_every_network_obeys_the_streaming_law(name: str, backbone: str, frames: int) -> None:
    check_streaming_law(small(name, backbone, causal=True, frames=frames), torch.randn(2, 3 * frames, 3, 48, 64))


@pytest.mark.parametrize(("name", "backbone"), VARIANTS[1:4])
def test_the_causal_form_never_looks_ahead(name: str, backbone: str) -> None:
    check_causality(small(name, backbone, causal=True), torch.randn(1, 10, 3, 48, 48))


@pytest.mark.parametrize("name", ["tsm", "tcm"])
def test_both_forms_have_the_same_parameters(name: str) -> None:
    clip, causal = (build_network(name, "resnet18", 8, 5, form, width=0.25) for form in (False, True))
    causal.load_state_dict(clip.state_dict())


@torch.no_grad()
def test_the_clip_form_has_no_state_and_looks_both_ways() -> None:
    network = small("tsm", "resnet18", causal=False)
    x = torch.randn(1, 8, 3, 48, 48)
    logits, state = network(x, {})
    assert logits.shape == (1, 8, 5)
    assert state == {}
    changed = x.clone()
    changed[:, 5] += 1
    moved = (network.frame_logits(changed) - logits).abs().amax(2)[0]
    assert moved[4] > 0
    assert moved[6] > 0


@torch.no_grad()
def test_a_network_without_temporal_ops_sees_each_frame_alone() -> None:
    network = small("tsn", "resnet18", causal=True)
    x = torch.randn(1, 6, 3, 48, 48)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(network.frame_logits(x)[:, order], network.frame_logits(x[:, order]))


@torch.no_grad()
def test_garbage_in_one_row_never_reaches_another() -> None:
    network = small("tcm", "resnet18", causal=True)
    x = torch.randn(2, 4, 3, 48, 48)
    alone = network.frame_logits(x[:1])
    x[1] = torch.nan
    torch.testing.assert_close(network.frame_logits(x)[:1], alone)


def test_the_official_tsm_on_resnet101_shifts_every_second_block() -> None:
    network = build_network("tsm", "resnet101", 8, 5, causal=True, width=0.125, shift_every=2)
    names = network.eval().initial_state(1, 32, 32).keys()
    assert {"layer3.0.shift.last", "layer3.22.shift.last"} <= names
    assert not any(name.startswith("layer3.1.") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tmcm", "resnet18"), "unknown network 'tmcm': did you mean 'tcm'"),
        (("tcm", "resnet19"), "unknown backbone 'resnet19': did you mean 'resnet18'"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_right_one(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        build_network(*arguments, frames=8, classes=5, causal=True)


def test_combinations_that_a_network_does_not_allow_are_refused() -> None:
    with pytest.raises(EngineError, match="TCM needs at least 4 frames"):
        build_network("tcm", "resnet18", 2, 5, causal=True)
    with pytest.raises(EngineError, match="cannot build tcm"):
        build_network("tcm", "resnet18", 8, 5, causal=True, shift_every=2)


def test_only_the_public_names_are_public() -> None:
    assert sorted(engines.networks.__all__) == engines.networks.__all__
    assert sorted(engines.__all__) == engines.__all__
