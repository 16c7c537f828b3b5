from __future__ import annotations

from typing import Any

import pytest
import torch

from engines import EngineError
from engines.networks import build_network
from engines.networks.measure import count_macs, describe
from engines.networks.temporal import Reach
from tools.bench.describe import main


@pytest.mark.parametrize(
    ("name", "backbone", "classes", "options", "millions"),
    [
        ("tsm", "resnet50", 174, {}, 23.86),
        ("tcm", "resnet50", 174, {}, 23.94),
        ("tanet", "resnet50", 400, {}, 25.59),
        ("stm", "resnet50", 174, {}, 24.04),
        ("gtdnet", "resnet50", 400, {"aggregator": "bilstm"}, 33.34),  # the paper: 33.9, some of its widths unknown
        ("tsm", "mobilenet_v2", 27, {}, 2.26),
    ],
)
def test_networks_have_their_published_sizes(
    name: str, backbone: str, classes: int, options: dict[str, Any], millions: float
) -> None:
    with torch.device("meta"):
        network = build_network(name, backbone, 8, classes, causal=False, **options)
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


FOLDED_SHIFT = 1.88
"""Giga multiply-adds of 8 frames: what TSM's shift, as a convolution of a difference, adds to a ResNet-50. A quarter of
every block's first convolution; the copy of the maps that it saves costs more time.
"""


@pytest.mark.parametrize(("name", "giga"), [("tsm", 32.9 + FOLDED_SHIFT), ("stm", 33.3)])
def test_a_clip_costs_what_its_paper_says(name: str, giga: float) -> None:
    with torch.device("meta"):
        network = build_network(name, "resnet50", 8, 174, causal=False).eval()
        macs = count_macs(network, torch.zeros(1, 8, 3, 224, 224), {})
    assert macs / 1e9 == pytest.approx(giga, rel=0.01)


def test_the_online_mobilenet_keeps_the_published_ten_maps() -> None:
    stream = describe("tsm", "mobilenet_v2", frames=8, classes=27).stream
    assert stream is not None
    maps = [(3, 56, 56), *[(4, 28, 28)] * 2, *[(8, 14, 14)] * 3, *[(12, 14, 14)] * 2, *[(20, 7, 7)] * 2]
    assert list(stream.states.values()) == [*maps, ()]  # the last one is the counter `seen`
    assert stream.state_bytes == 4 * (sum(c * h * w for c, h, w in maps) + 1)
    assert stream.reach == Reach(10, 0)


def test_a_stream_costs_one_frame_and_a_window_all_but_the_first_layers_of_its_frames() -> None:
    found = describe("tsm", "resnet26", frames=8, classes=5, size=64)
    assert found.stream is not None
    assert 0.95 < found.stream.step_macs / (found.clip_macs / 8) < 1  # a clip shifts twice as many channels
    stem = 64 * 3 * 7 * 7 * 32 * 32
    assert found.window.step_macs == found.clip_macs - 7 * stem
    assert found.window.states == {"window": (8, 64, 16, 16), "seen": ()}
    assert found.window.reach == Reach(7, 7)


def test_a_network_without_memory_answers_a_window_from_its_last_maps() -> None:
    found = describe("tsn", "resnet18", frames=8, classes=5, size=64)
    assert found.window.states == {"window": (8, 512, 2, 2), "seen": ()}
    assert found.window.step_macs == found.clip_macs / 8 + 7 * 512 * 5  # the head alone is computed again
    assert found.window.reach == Reach(0, 0)


def test_the_command_prints_the_figures_and_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["gtdnet", "--backbone", "resnet26", "--size", "64", "--frames", "2"]
    assert main([*small, "--option", "aggregator=lstm"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "parameters ",
        "multiply-adds for 2 frames, nothing cached",
        "latency 0 frames, memory the whole stream",
        "layer4.1.shift.gtd.aggregate.cell    256",
        "  window  2 x 64 x 16 x 16",
    ):
        assert part in printed
    assert main([*small, "--option", "aggregator=bilstm"]) == 0
    assert "this network has no causal form" in capsys.readouterr().out


def test_what_cannot_be_described_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stn"]) == 4
    assert "describe: unknown network 'stn': did you mean 'tsn'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["tsm", "--option", "shift_every"])
    assert "'shift_every' is not NAME=VALUE" in capsys.readouterr().err
    with pytest.raises(EngineError, match="STM is a part of bottleneck blocks"):
        describe("stm", "resnet18", frames=8, classes=5)
