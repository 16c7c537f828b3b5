"""What a run shows of itself over HTTP: /metrics for Prometheus, /healthz for whoever restarts it or routes to it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType

from streamer.health.metrics import Metrics
from streamer.labels.addresses import is_public, listen, names_this_machine
from streamer.labels.publisher import Publisher
from streamer.pipeline.pipeline import Pipeline
from streamer.sources import Source
from streamer.web import Listener, Page, Request

HUNG_S = 10.0  # a loop that has not come round for this long hangs

log = logging.getLogger(__name__)


class Monitor:
    """Serves both pages at `address` (HOST:PORT), from before the model is loaded until it is closed.

    address  where they are, with the port that was found when 0 was asked for
    metrics  the probe for the pipeline

    Raises ConfigError when the address cannot be used.
    """

    def __init__(self, address: str, sources: Sequence[Source]) -> None:
        self.metrics = Metrics()
        self._sources = sources
        self._pipeline: Pipeline | None = None
        sock = listen(address, "metrics", "127.0.0.1:9464")
        host, port = sock.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._public = is_public(host)
        if self._public:
            log.warning("anyone who can reach this machine can read http://%s; bind 127.0.0.1 instead", self.address)
        pages = {"/metrics": self._metrics, "/healthz": self._healthz}
        self._listener = Listener(sock, pages, "metrics", knows=self._knows)

    def watch(self, pipeline: Pipeline, publisher: Publisher | None) -> None:
        """Show this pipeline, which is about to run."""
        self._pipeline = pipeline
        self.metrics.watch(pipeline, publisher)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether the run does what it shall, and why: the loop goes round and every required source is online."""
        turned = self._pipeline.turned if self._pipeline else None
        if self._pipeline is None or turned is None:
            streams = {n: _stream("connecting", "", s.config.required) for s in self._sources for n in s.streams}
            return False, {"healthy": False, "engine": "starting", "streams": streams}
        conditions = self._pipeline.conditions()
        hangs = time.monotonic() - turned > HUNG_S
        online = all(health.state == "online" for stream, health in conditions if stream.source.config.required)
        healthy = online and not hangs
        streams = {
            stream.name: _stream(health.state, health.detail, stream.source.config.required)
            for stream, health in conditions
        }
        return healthy, {"healthy": healthy, "engine": "hangs" if hangs else "running", "streams": streams}

    def _knows(self, request: Request) -> bool:
        return self._public or request.host is None or names_this_machine(request.host)

    def _healthz(self) -> Page:
        healthy, report = self.health()
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(f"{json.dumps(report)}\n".encode(), "application/json", status)

    def _metrics(self) -> Page:
        return Page(self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    def close(self) -> None:
        """Stop serving."""
        self._listener.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stream(source: str, detail: str, required: bool) -> dict[str, object]:
    return {"source": source, "required": required, "detail": detail}
