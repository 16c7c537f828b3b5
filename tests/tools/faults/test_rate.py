from __future__ import annotations

from tools.faults.rate import lines, measure


def test_what_a_hub_passes_on_and_how_late_is_measured_with_real_processes() -> None:
    rate = measure(1, 0.3)
    assert rate.subscribers == 1
    assert rate.passed_s > 0
    assert rate.read_s > 0
    assert rate.core_us > 0
    assert rate.added_ms_p50 <= rate.added_ms_p99
    assert "1 subscribers: " in lines([rate])[0]
