"""What a run did, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.pipeline.meters import Meter
from streamer.pipeline.stream import Stream
from streamer.sources.reader import Health
from streamer.text import counted


@dataclass(frozen=True)
class Summary:
    """What a run did. Percentiles over the last 4096 values, in milliseconds; None if there were none."""

    captured: int
    inferred: int
    events: int
    dropped: dict[str, int]
    reconnects: int
    step_ms_p50: float | None
    step_ms_p99: float | None
    age_ms_p50: float | None
    age_ms_p99: float | None

    def lines(self) -> Iterator[str]:
        """For people."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        yield f"frames  {self.captured} captured, {self.inferred} inferred, dropped: {dropped or 'none'}"
        yield f"labels  {counted(self.events, 'event')}, {counted(self.reconnects, 'reconnect')}"
        for name, p50, p99 in (("step", self.step_ms_p50, self.step_ms_p99), ("age", self.age_ms_p50, self.age_ms_p99)):
            if p50 is not None:
                yield f"{name:7} p50 {p50:.1f} ms, p99 {p99:.1f} ms{' (from capture to publish)' * (name == 'age')}"


@dataclass
class Totals:
    """Sums over streams, those that were removed among them."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, stream: Stream, health: Health) -> None:
        """Add what one stream and its source have counted."""
        self.counts.update(captured=health.captured, reconnects=health.reconnects)
        self.counts.update(inferred=stream.inferred, events=stream.started)
        self.dropped.update(stream.dropped)

    def summary(self, step_ms: Meter, age_ms: Meter) -> Summary:
        """All of it, with how long steps of the engine took, and how old frames were when their labels were out."""
        return Summary(
            captured=self.counts["captured"],
            inferred=self.counts["inferred"],
            events=self.counts["events"],
            dropped={reason: count for reason, count in self.dropped.items() if count},
            reconnects=self.counts["reconnects"],
            step_ms_p50=step_ms.percentile(50),
            step_ms_p99=step_ms.percentile(99),
            age_ms_p50=age_ms.percentile(50),
            age_ms_p99=age_ms.percentile(99),
        )
