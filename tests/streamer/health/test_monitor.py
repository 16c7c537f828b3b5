from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamer.config import SourceConfig
from streamer.health import monitor
from streamer.health.monitor import Monitor
from streamer.sources import open_source

from ..pipeline.seeing import Film
from ..pipeline.test_pipeline import Camera
from .monitored import get, health, monitored

WaitFor = Callable[[Callable[[], Any]], None]


def optional(name: str) -> Camera:
    camera = Camera(name)
    camera.config = camera.config.model_copy(update={"required": False})
    return camera


def test_before_the_pipeline_runs_the_streams_are_named_as_connecting() -> None:
    sources = [open_source(SourceConfig(uri="pattern://swipe", name="door", required=False))]
    with Monitor("127.0.0.1:0", sources) as early:
        status, report = health(early.address)
        assert get(early.address, "/metrics")[0] == 200
    assert status == 503
    assert report == {
        "healthy": False,
        "engine": "starting",
        "streams": {"door": {"source": "connecting", "required": False, "detail": ""}},
    }


def test_healthy_is_a_run_whose_required_streams_are_all_online(wait_for: WaitFor) -> None:
    one, two, other = Camera("one"), Camera("two"), optional("other")
    two.broken.set()
    other.broken.set()
    with monitored(one, two, other) as running:
        wait_for(lambda: health(running.address)[1]["streams"]["two"]["source"] == "offline")
        status, report = health(running.address)
        assert (status, report["healthy"], report["engine"]) == (503, False, "running")
        assert "plug was pulled" in report["streams"]["two"]["detail"]
        two.broken.clear()
        wait_for(lambda: health(running.address)[0] == 200)
        report = health(running.address)[1]
        assert report["healthy"]
        assert not report["streams"]["other"]["required"]
        two.silent.set()
        wait_for(lambda: health(running.address)[0] == 503)
        assert health(running.address)[1]["streams"]["two"]["source"] == "stalled"


def test_a_required_file_that_has_ended_is_not_online() -> None:
    with monitored(Film(lambda _: 1, [n / 30 for n in range(30)])) as running:
        running.thread.join(30)
        status, report = health(running.address)
    assert status == 503
    assert report["streams"]["film"]["source"] == "ended"


def test_an_engine_that_hangs_is_not_healthy_whatever_the_cameras_say(
    wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monitored(Camera()) as running:
        wait_for(lambda: health(running.address)[0] == 200)
        running.engine.free.clear()
        wait_for(running.engine.inside.is_set)
        monkeypatch.setattr(monitor, "HUNG_S", 0.1)
        wait_for(lambda: health(running.address)[1]["engine"] == "hangs")
        status, report = health(running.address)
        assert (status, report["streams"]["camera"]["source"]) == (503, "online")
