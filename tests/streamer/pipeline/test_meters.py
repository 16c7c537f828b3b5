from __future__ import annotations

from streamer.pipeline.meters import RECENT, Meter


def test_percentiles_are_of_the_recent_values_only() -> None:
    meter = Meter()
    assert meter.percentile(50) is None
    for value in range(2 * RECENT):
        meter.add(value)
    assert meter.percentile(0) == RECENT
    assert meter.percentile(100) == 2 * RECENT - 1
    assert meter.percentile(50) == 1.5 * RECENT - 0.5
