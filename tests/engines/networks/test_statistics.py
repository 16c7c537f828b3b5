from __future__ import annotations

import torch
from torch.nn import functional as F

from engines.networks import build_network
from engines.networks.matching import MotionHistograms
from engines.networks.statistics import StatisticsPooling

from .contract import check_streaming_law


def test_the_statistics_are_those_of_the_last_frames_that_are_there() -> None:
    x = torch.randn(2, 6, 3, 4, 5)
    y, _ = StatisticsPooling(frames=4, causal=True)([x], {})
    seen = x.mean((3, 4))
    change = torch.cat([torch.zeros(2, 1, 3), (x[:, 1:] - x[:, :-1]).abs().mean((3, 4))], 1)
    for t in (0, 2, 3, 5):
        window = torch.cat([seen, change], 2)[:, max(0, t - 3) : t + 1]
        expected = torch.cat([window.mean(1), (window.var(1, unbiased=False) + 1e-6).sqrt()], 1)
        torch.testing.assert_close(y[:, t], expected)


def test_with_motion_the_trend_tells_what_comes_first_and_what_later() -> None:
    x, grey = torch.randn(2, 6, 3, 4, 5), torch.rand(2, 6, 1, 16, 16)
    pooling = StatisticsPooling(frames=4, causal=True, motion=True)
    y, _ = pooling([x], {}, grey)
    moved, _ = MotionHistograms(causal=True)(grey, {})
    seen = torch.cat([x.mean((3, 4)), moved], 2)
    for t in (1, 3, 5):
        window = seen[:, max(0, t - 3) : t + 1]
        ramp = torch.linspace(-1, 1, window.shape[1]).view(1, -1, 1)
        torch.testing.assert_close(y[:, t, -seen.shape[2] :], (window * ramp).mean(1))
    assert not y[:, 0, -seen.shape[2] :].any()


def test_a_clip_has_the_statistics_of_all_its_frames_at_each_of_them() -> None:
    maps = [torch.randn(1, 4, 2, 3, 3), torch.randn(1, 4, 5, 2, 2)]
    clip, state = StatisticsPooling(frames=4, causal=False)(maps, {})
    stream, _ = StatisticsPooling(frames=4, causal=True)(maps, {})
    assert state == {}
    torch.testing.assert_close(clip, stream[:, -1:].expand_as(clip))
    assert clip.shape == (1, 4, 4 * 7)


def test_statistics_of_several_depths_obey_the_streaming_law() -> None:
    x = torch.randn(2, 24, 6, 4, 4)
    pooling = StatisticsPooling(frames=8, causal=True)
    check_streaming_law(lambda z, state: pooling([z, z[:, :, :2, :2, :2]], state), x)


def test_in_cells_the_statistics_are_those_of_each_cell() -> None:
    x = torch.randn(1, 3, 2, 7, 9)
    y, _ = StatisticsPooling(frames=4, causal=True, grid=4)([x], {})
    assert y.shape == (1, 3, 4 * 2 * 16)
    expected = F.adaptive_avg_pool2d(x[0], 4).flatten(1).mean(0)
    torch.testing.assert_close(y[0, -1, : 2 * 16], expected)
    pooling = StatisticsPooling(frames=4, causal=True, grid=3)
    check_streaming_law(lambda z, state: pooling([z], state), torch.randn(2, 24, 6, 5, 4))


def test_the_head_reads_the_last_rows_of_blocks_and_the_last_convolution() -> None:
    with torch.device("meta"):
        network = build_network("tsn", "efficientnet_lite0", 8, 5, causal=True, pooling="statistics").eval()
        state = network.initial_state(1, 192, 192)
    assert network.fc.in_features == 4 * (112 + 192 + 320 + 1280)
    assert [tuple(state[f"pooling.last.{depth}"].shape[1:]) for depth in range(4)] == [
        (112, 12, 12), (192, 6, 6), (320, 6, 6), (1280, 6, 6),
    ]  # fmt: skip
