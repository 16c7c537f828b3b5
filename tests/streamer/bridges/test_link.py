"""The connection to a real broker that is killed, frozen, closed to us, or encrypted."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streamer.bridges import link as links
from streamer.bridges.board import Post
from streamer.bridges.broker import Broker, parse_broker
from streamer.bridges.link import Link

from .broker import Listener, Mosquitto, needs_mosquitto

WaitFor = Callable[[Callable[[], bool]], None]
PASSWORD = "S3cr3t@pw"

pytestmark = needs_mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start brokers; they end with the test."""
    started = []

    def start(*lines: str) -> Mosquitto:
        started.append(Mosquitto(tmp_path, *lines))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Link]]:
    """Begin connections with short pauses; they end with the test."""
    monkeypatch.setattr(links, "_PAUSE_S", 0.05)
    monkeypatch.setattr(links, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(links, "_SLOW_PAUSE_S", 0.1)
    monkeypatch.setattr(links, "CLOSE_S", 1.0)
    begun = []

    def begin(broker: Broker | str, **options: Any) -> Link:
        there = parse_broker(broker) if isinstance(broker, str) else broker
        wanted = {"topics": [], "found": lambda *_: None, **options}
        begun.append(Link(there, "test", Post("p/bridge", b"offline"), b"online", **wanted))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_retained_is_there_again_after_a_broker_that_was_killed(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    here = link(broker.address)
    here.put([Post("p/a", b"1"), Post("p/event", b'{"n": 1}', retained=False)])
    wait_for(lambda: here.sent == 1)
    broker.kill()
    here.put([Post("p/a", b"2"), Post("p/b", b"x"), Post("p/event", b'{"n": 2}', retained=False)])
    broker.start()
    with closing(Listener(broker)) as listener:
        wait_for(lambda: here.sent == 2)
        wait_for(lambda: listener.kept == {"p/a": "2", "p/b": "x", "p/bridge": "online"})


def test_a_broker_that_is_away_costs_the_oldest_events_which_are_counted(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    broker.kill()
    here = link(broker.address, most=50)
    for number in range(200):
        here.put([Post("p/event", b'{"n": %d}' % number, retained=False), Post("p/a", b"%d" % number)])
    assert here.dropped == 150
    broker.start()
    wait_for(lambda: here.sent == 50)
    assert here.dropped == 150


def test_what_is_to_be_forgotten_is_gone_at_the_broker_and_stays_so(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    here = link(broker.address)
    here.put([Post("p/a", b"1"), Post("p/b", b"1")])
    with closing(Listener(broker)) as listener:
        wait_for(lambda: listener.kept == {"p/a": "1", "p/b": "1", "p/bridge": "online"})
    here.put([Post("p/a", b""), Post("p/c", b"1")])
    with closing(Listener(broker)) as listener:
        wait_for(lambda: "p/c" in listener.kept)
        assert not listener.kept.get("p/a")
        here.repeat()
        wait_for(lambda: "p/a" not in here._kept)
    with closing(Listener(broker)) as listener:
        wait_for(lambda: listener.kept == {"p/b": "1", "p/bridge": "online", "p/c": "1"})


def test_an_event_that_would_come_too_late_is_dropped_and_counted(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    here = link(broker.address, keep_s=0.0)
    here.put([Post("p/a", b"1"), Post("p/event", b"{}", retained=False)])
    with closing(Listener(broker)) as listener:
        wait_for(lambda: here.dropped == 1 and listener.kept.get("p/a") == "1")
        assert here.sent == 0


def test_ten_thousand_events_are_sent_or_counted_and_what_is_retained_is_right(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    here = link(broker.address, most=500)
    with closing(Listener(broker)) as listener:
        for number in range(10_000):
            here.put([Post("p/x/event", b'{"n": %d}' % number, retained=False), Post("p/a", b"%d" % number)])
        wait_for(lambda: here.sent + here.dropped == 10_000)
        wait_for(lambda: listener.kept.get("p/a") == "9999" and listener.came[-1][1] == {"n": 9999})
        numbers = [event["n"] for _, event in listener.came]
        assert numbers == sorted(numbers)
        assert here.dropped > 0


def test_a_broker_that_is_frozen_holds_nobody_up(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    here = link(broker.address, most=10)
    here.put([Post("p/event", b"{}", retained=False)])
    wait_for(lambda: here.sent == 1)
    broker.freeze()
    for _ in range(1000):
        here.put([Post("p/event", b"{}", retained=False)])
    wait_for(lambda: here.dropped >= 1000 - links.MOST_ON_THE_WAY - 10)
    here.close()


def test_the_broker_says_that_this_end_is_gone(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor
) -> None:
    broker = mosquitto()
    with closing(Listener(broker)) as listener:
        here = link(broker.address)
        wait_for(lambda: listener.kept == {"p/bridge": "online"})
        here.put([Post("p/a", b"last")])
        here.close()
        wait_for(lambda: listener.kept == {"p/bridge": "offline", "p/a": "last"})


def test_two_with_one_prefix_are_told_so(
    mosquitto: Callable[..., Mosquitto], link: Callable[..., Link], wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto()
    link(broker.address)
    link(broker.address)
    wait_for(lambda: "is another bridge there with this --prefix?" in caplog.text)


def test_a_broker_that_is_not_there_is_told_once(
    link: Callable[..., Link], wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    here = link("mqtt://127.0.0.1:1")
    wait_for(lambda: bool(told(caplog)))
    here.close()
    assert told(caplog) == ["broker mqtt://127.0.0.1:1: nobody listens there; is the broker running?"]


def test_a_wrong_password_is_told_in_a_sentence_without_it(
    mosquitto: Callable[..., Mosquitto],
    link: Callable[..., Link],
    wait_for: WaitFor,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "cameras", PASSWORD], check=True)
    broker = mosquitto(f"password_file {passwords}")
    at = broker.address.replace("//", "//cameras@")
    for address, password in ((at, "wr0ng-one"), (broker.address, None)):
        here = link(parse_broker(address, password))
        wait_for(lambda: "lets nobody in" in caplog.text)
        here.close()
        (sentence,) = told(caplog)
        assert ("user 'cameras' or its password is wrong" if password else "wants a user and a password") in sentence
        assert "wr0ng" not in caplog.text
        caplog.clear()
    here = link(parse_broker(at, PASSWORD))
    here.put([Post("p/event", b"{}", retained=False)])
    wait_for(lambda: here.sent == 1)


def test_a_self_signed_certificate_is_refused_unless_it_is_named(
    mosquitto: Callable[..., Mosquitto],
    link: Callable[..., Link],
    wait_for: WaitFor,
    caplog: pytest.LogCaptureFixture,
    certificate: tuple[Path, Path],
) -> None:
    made, key = certificate
    broker = mosquitto(f"certfile {made}", f"keyfile {key}")
    encrypted = broker.address.replace("mqtt://", "mqtts://")
    here = link(encrypted)
    wait_for(lambda: bool(told(caplog)))
    here.close()
    (sentence,) = told(caplog)
    assert "is not trusted: self-signed certificate" in sentence
    assert "--ca-file" in sentence
    here = link(parse_broker(encrypted, ca_file=made))
    here.put([Post("p/event", b"{}", retained=False)])
    wait_for(lambda: here.sent == 1)
    caplog.clear()
    link(parse_broker(encrypted.replace("127.0.0.1", "localhost"), ca_file=made))
    wait_for(lambda: "Hostname mismatch" in caplog.text)


def test_tls_on_the_wrong_side_is_told(
    mosquitto: Callable[..., Mosquitto],
    link: Callable[..., Link],
    wait_for: WaitFor,
    caplog: pytest.LogCaptureFixture,
    certificate: tuple[Path, Path],
) -> None:
    made, key = certificate
    link(mosquitto(f"certfile {made}", f"keyfile {key}").address)
    wait_for(lambda: "does it want TLS (mqtts://)?" in caplog.text)
    link(mosquitto().address.replace("mqtt://", "mqtts://"))
    wait_for(lambda: "does not speak TLS there" in caplog.text)


def test_a_broker_that_wants_a_certificate_gets_one(
    mosquitto: Callable[..., Mosquitto],
    link: Callable[..., Link],
    wait_for: WaitFor,
    caplog: pytest.LogCaptureFixture,
    certificate: tuple[Path, Path],
) -> None:
    made, key = certificate
    broker = mosquitto(f"certfile {made}", f"keyfile {key}", f"cafile {made}", "require_certificate true")
    encrypted = broker.address.replace("mqtt://", "mqtts://")
    here = link(parse_broker(encrypted, ca_file=made))
    wait_for(lambda: "does it want a certificate (--client-cert)?" in caplog.text)
    here.close()
    here = link(parse_broker(encrypted, None, made, made, key))
    here.put([Post("p/event", b"{}", retained=False)])
    wait_for(lambda: here.sent == 1)


def test_what_is_no_broker_is_told(
    link: Callable[..., Link], wait_for: WaitFor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_S", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        here = link(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        wait_for(lambda: "does not answer as a broker" in caplog.text)
        here.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("mqtt")] == []
