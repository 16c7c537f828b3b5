from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamer.config import SourceConfig
from streamer.errors import ConfigError
from streamer.health import monitor
from streamer.health.monitor import Monitor
from streamer.sources import open_source

from ..pipeline.seeing import Film
from ..pipeline.test_pipeline import Camera
from ..test_web import asked
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


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1:9464", b"HTTP/1.1 503 "),
        ("localhost", b"HTTP/1.1 503 "),
        ("[::1]:9464", b"HTTP/1.1 503 "),
        ("evil.com", b"HTTP/1.1 403 "),
        ("evil.com:80", b"HTTP/1.1 403 "),
        ("localhost.evil.com", b"HTTP/1.1 403 "),
        ("127.0.0.1.evil.com", b"HTTP/1.1 403 "),
        ("x@127.0.0.1", b"HTTP/1.1 403 "),
        ("[", b"HTTP/1.1 403 "),
        ("", b"HTTP/1.1 403 "),
    ],
)
def test_on_a_loopback_address_only_names_of_this_machine_are_answered(host: str, answer: bytes) -> None:
    """A site in a browser could have its own name resolve to 127.0.0.1, and read."""
    with Monitor("127.0.0.1:0", []) as early:
        name, port = early.address.split(":")
        for method in ("GET", "HEAD"):
            request = f"{method} /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            assert asked((name, int(port)), request).startswith(answer)


def test_a_health_check_that_asks_with_head_hears_the_status_and_no_body() -> None:
    with Monitor("127.0.0.1:0", []) as early:
        name, port = early.address.split(":")
        said = asked((name, int(port)), b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("9464", "metrics: '9464' is not HOST:PORT; use 127.0.0.1:9464"),
        ("http://127.0.0.1:9464", "is not HOST:PORT"),
        ("127.0.0.1:99999", "is not HOST:PORT"),
        ("127.0.0.1:", "is not HOST:PORT"),
        (":9464", "is not HOST:PORT"),
        ("192.0.2.1:9464", "this machine has no such address; set metrics to one that it has"),
        ("nothing.invalid:9464", "metrics: cannot listen on nothing.invalid:9464"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_in_one_sentence(address: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Monitor(address, [])
    assert message in str(caught.value)


def test_an_address_in_use_is_told_with_what_to_do() -> None:
    with Monitor("127.0.0.1:0", []) as first, pytest.raises(ConfigError) as caught:
        Monitor(first.address, [])
    assert f"cannot listen on {first.address}: another program uses it" in str(caught.value)
    assert "set metrics to another port" in str(caught.value)


def test_a_public_address_works_and_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with Monitor("0.0.0.0:0", []) as public:
        port = public.address.split(":")[1]
        assert get(f"127.0.0.1:{port}", "/metrics")[0] == 200
        assert asked(("127.0.0.1", int(port)), b"GET /metrics HTTP/1.1\r\nHost: box\r\n\r\n").startswith(
            b"HTTP/1.1 200 "
        )
    assert "anyone who can reach this machine can read" in caplog.text
