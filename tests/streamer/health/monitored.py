"""A pipeline that runs under a monitor, and a reader of what the monitor serves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamer.clips.room import Clips
from streamer.config import Config
from streamer.health.monitor import Monitor
from streamer.labels.messages import Message
from streamer.labels.publisher import Publisher
from streamer.pipeline.pipeline import Pipeline
from streamer.sources import Source
from tests.streamer.pipeline.seeing import SeeingEngine


class SlowEngine(SeeingEngine):
    """Stands still in a step while it is not `free`; `inside` says that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.inside = threading.Event(), threading.Event()
        self.free.set()

    def _step(self, *arguments: Any) -> Any:
        if not self.free.is_set():
            self.inside.set()
        assert self.free.wait(30)
        self.inside.clear()
        return super()._step(*arguments)


def get(address: str, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    try:
        with urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def health(address: str) -> tuple[int, Any]:
    """What /healthz says."""
    status, body = get(address, "/healthz")
    return status, json.loads(body)


def families(address: str) -> list[Metric]:
    """What /metrics says."""
    status, body = get(address, "/metrics")
    assert status == 200
    return list(text_string_to_metric_families(body.decode()))


def values(address: str) -> dict[tuple[str, ...], float]:
    """The samples of /metrics by name and values of the labels, these in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families(address)
        for sample in family.samples
    }


class Running:
    """A pipeline in a thread of its own, and its monitor."""

    def __init__(
        self,
        sources: Sequence[Source],
        publisher: Publisher | None,
        config: Config | None,
        keeper: Clips | None,
    ) -> None:
        self.messages: list[Message] = []
        self.engine = SlowEngine()
        self.monitor = Monitor("127.0.0.1:0", sources)
        self.address = self.monitor.address
        self.pipeline = Pipeline(
            config or Config(), self.engine, sources, publisher, [self.messages.append],
            probe=self.monitor.metrics, keeper=keeper,
        )  # fmt: skip
        self.monitor.watch(self.pipeline, publisher)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.pipeline.run, args=[self.stop])

    def finish(self) -> None:
        self.engine.free.set()
        self.stop.set()
        self.thread.join(30)


@contextmanager
def monitored(
    *sources: Source,
    publisher: Publisher | None = None,
    config: Config | None = None,
    keeper: Clips | None = None,
) -> Iterator[Running]:
    """Run the sources while the block runs."""
    running = Running(sources, publisher, config, keeper)
    with running.monitor:
        running.thread.start()
        try:
            yield running
        finally:
            running.finish()
