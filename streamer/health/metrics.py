"""What Prometheus reads, as docs/reference/metrics.md lists it. Off, it is not even imported.

Counts are not kept a second time: they are read from the pipeline when Prometheus asks, and so are those of the
`status` messages. Only the histograms are filled as the work goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.labels.publisher import Publisher
from streamer.pipeline.meters import Probe, Stage
from streamer.pipeline.pipeline import Pipeline
from streamer.sources.reader import SourceState

if TYPE_CHECKING:
    from streamer.clips.room import Clips

STATES: tuple[str, ...] = get_args(SourceState)
"""The values of streamer_source_state, from 0."""

_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_AGE_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics(Probe, Collector):
    """The metrics of one pipeline; before `watch` there are none but the empty histograms."""

    def __init__(self) -> None:
        stages = Histogram(
            "streamer_stage_seconds",
            "How long it took to convert a frame, to run the engine, to decide on events, to publish a message.",
            ["stage"],
            buckets=_STAGE_S,
            registry=None,
        )
        self._age = Histogram(
            "streamer_frame_age_seconds",
            "From the capture of a frame to the end of its publishing.",
            ["stream"],
            buckets=_AGE_S,
            registry=None,
        )
        self._rows = Histogram(
            "streamer_batch_rows", "Streams that took part in a step of the engine.", buckets=_ROWS, registry=None
        )
        self._stages: dict[Stage, Histogram] = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._histograms = stages, self._age, self._rows
        self._watched: tuple[Pipeline, Publisher | None] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def watch(self, pipeline: Pipeline, publisher: Publisher | None) -> None:
        """What to read when asked."""
        self._watched = pipeline, publisher

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        """Measure a piece of work."""
        return self._stages[stage].time()

    def stepped(self, rows: int) -> None:
        """Count the rows of a step."""
        self._rows.observe(rows)

    def published(self, stream: str, age_s: float) -> None:
        """Count the age of a frame."""
        self._age.labels(stream).observe(age_s)

    def removed(self, stream: str) -> None:
        """Forget a stream: with names that are always new, the ages of old ones would grow without end."""
        self._age.remove(stream)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format; any thread may ask."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What is known now."""
        for histogram in self._histograms:
            for family in histogram.collect():
                family.samples = [one for one in family.samples if not one.name.endswith("_created")]
                yield family
        if self._watched:
            pipeline, publisher = self._watched
            yield from _of_streams(pipeline)
            told = "How far load is shed because the engine is too slow; 0: not at all."
            yield GaugeMetricFamily("streamer_shedding_stage", told, pipeline.stage)
            subscriptions = publisher.subscriptions if publisher else 0
            yield GaugeMetricFamily(
                "streamer_subscriptions", "Subscriptions to the label stream; most programs have one.", subscriptions
            )
            if pipeline.keeper:
                yield from _of_clips(pipeline.keeper)
            engine = pipeline.engine
            info = {"model": engine.spec.version, "backend": engine.backend, "device": engine.device}
            yield InfoMetricFamily("streamer_engine", "The model, and what runs it.", info)


def _of_streams(pipeline: Pipeline) -> list[Metric]:
    """What the pipeline keeps of each stream."""
    captured = _counter("frames_captured", "Frames that the source gave.")
    dropped = _counter("frames_dropped", "Frames that the network did not see.", "reason")
    inferred = _counter("frames_inferred", "Frames that the network saw.")
    waiting = GaugeMetricFamily("streamer_ring_frames", "Frames that wait for the engine.", labels=["stream"])
    states = ", ".join(f"{number} {state}" for number, state in enumerate(STATES))
    state = GaugeMetricFamily("streamer_source_state", f"The source is: {states}.", labels=["stream"])
    reconnects = _counter("reconnects", "Connections after the first one.")
    crashes = _counter("decoder_crashes", "Crashes and hangs of decoders that run in a process of their own.")
    resets = _counter("resets", "How often the temporal state started anew.")
    gaps = _counter("gaps", "How often time was lost.", "reason")
    lost = _counter("lost_seconds", "Time lost: from the last frame before a gap to the first one after it.", "reason")
    events = _counter("events", "Events that began.")
    for stream, health in pipeline.conditions():
        name = [stream.name]
        captured.add_metric(name, health.captured)
        for reason, count in stream.dropped.items():
            dropped.add_metric([*name, reason], count)
        inferred.add_metric(name, stream.inferred)
        waiting.add_metric(name, len(stream.ring))
        state.add_metric(name, STATES.index(health.state))
        reconnects.add_metric(name, health.reconnects)
        crashes.add_metric(name, stream.source.crashes)
        resets.add_metric(name, stream.epoch)
        for reason in stream.gaps:
            gaps.add_metric([*name, reason], stream.gaps[reason])
            lost.add_metric([*name, reason], stream.lost_us[reason] / 1e6)
        events.add_metric(name, stream.started)
    return [captured, dropped, inferred, waiting, state, reconnects, crashes, resets, gaps, lost, events]


def _of_clips(clips: Clips) -> list[Metric]:
    """What is kept of the clips."""
    written = CounterMetricFamily("streamer_clips_written", "Clips that were written.", clips.written)
    told = "Events and moments without a clip."
    dropped = CounterMetricFamily("streamer_clips_dropped", told, labels=["reason"])
    for reason, count in clips.dropped.items():
        dropped.add_metric([reason], count)
    deleted = CounterMetricFamily("streamer_clips_deleted", "Clips that were deleted, by the limits.", clips.deleted)
    told = "Pictures that are in no clip, since the machine was too slow to encode them."
    left_out = CounterMetricFamily("streamer_clips_pictures_left_out", told, clips.left_out)
    size = GaugeMetricFamily("streamer_clips_bytes", "What the clips take on the disk, without answers.", clips.bytes)
    told = "What the last seconds of all sources take in memory."
    memory = GaugeMetricFamily("streamer_clips_memory_bytes", told, clips.memory_bytes)
    return [written, dropped, deleted, left_out, size, memory]


def _counter(name: str, help_: str, *labels: str) -> CounterMetricFamily:
    """A counter for each stream; its samples end in _total."""
    return CounterMetricFamily(f"streamer_{name}", help_, labels=["stream", *labels])
