"""From a publisher to what Home Assistant would see at a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq

from streamer.bridges import board as boards
from streamer.bridges import link as links
from streamer.bridges import mqtt as bridges
from streamer.bridges.broker import parse_broker
from streamer.bridges.feed import carry
from streamer.bridges.knowing import Knowing
from streamer.bridges.mqtt import Mqtt
from streamer.errors import StreamerError
from streamer.labels.events import State
from streamer.labels.messages import StatusMessage, encode
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import STAMP

from .broker import Listener, Mosquitto, needs_mosquitto
from .peers import Speaker, events

pytestmark = needs_mosquitto

Bridge = Callable[..., list[str]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def bridge(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    """Carry labels from an address to the broker, until the test ends; gives the counts that are told."""
    monkeypatch.setattr(links, "_PAUSE_S", 0.05)
    monkeypatch.setattr(links, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(links, "CLOSE_S", 1.0)
    monkeypatch.setattr(bridges, "COUNTS_S", 0.1)
    stop, begun = threading.Event(), []

    def begin(address: str, *, end: threading.Event = stop, knowing: Knowing | None = None) -> list[str]:
        told: list[str] = []

        def work() -> None:
            with Subscriber(address, kinds=["event", "state", "status"], queue=20_000) as subscriber:
                made = Mqtt(parse_broker(broker.address), "p", "homeassistant", knowing=knowing, most=500)
                carry(subscriber, address, made, end, told.append)

        begun.append(threading.Thread(target=work))
        begun[-1].start()
        return told

    yield begin
    stop.set()
    for one in begun:
        one.join(30)
        assert not one.is_alive()


def test_a_sensor_is_on_during_its_event_and_home_assistant_finds_it(broker: Mosquitto, bridge: Bridge) -> None:
    stop = threading.Event()
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        told = bridge(speaker.address, end=stop)
        speaker.heard()
        start, end = events(speaker.build, label="Überholen 🚗.2")
        speaker.say([speaker.build.status("door", STAMP, "online"), start])
        name = "door/uberholen_2_719b7d3f"
        speaker.until(lambda: listener.sensors("p").get(name) == "ON")
        speaker.until(lambda: listener.kept.get("p/bridge") == listener.kept.get("p/door/available") == "online")
        found = listener.found()["homeassistant/binary_sensor/p-door/uberholen_2_719b7d3f/config"]
        assert found["name"] == "Überholen 🚗.2"
        assert listener.kept[found["state_topic"]] == found["payload_on"]
        speaker.say([end])
        speaker.until(lambda: listener.sensors("p")[name] == "OFF" and len(listener.came) == 2)
        entity = listener.found()["homeassistant/event/p-door/action/config"]
        assert [topic for topic, _ in listener.came] == [entity["state_topic"]] * 2
        assert [event["event_type"] for _, event in listener.came] == ["start", "end"]
        assert {event["event_type"] for _, event in listener.came} <= set(entity["event_types"])
        speaker.until(lambda: json.loads(listener.kept.get("p/counts", "{}")).get("sent") == 2)
        stop.set()
        speaker.until(lambda: listener.kept.get("p/bridge") == listener.kept.get("p/door/available") == "offline")
        speaker.until(lambda: told)
        assert told == ["2 events, 2 sent, 0 dropped, 0 passed over, 0 missed, 0 not understood"]


def test_after_a_broker_that_was_killed_all_is_right_again(broker: Mosquitto, bridge: Bridge) -> None:
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        bridge(speaker.address)
        speaker.heard()
        wave, clap = events(speaker.build, label="wave"), events(speaker.build, label="clap")
        speaker.say(wave[:1])
        speaker.until(lambda: listener.sensors("p") == {"door/wave": "ON"})
        broker.kill()
        listener.kept.clear()
        speaker.say([wave[1], clap[0]])
        broker.start()
        speaker.until(lambda: listener.sensors("p") == {"door/wave": "OFF", "door/clap": "ON"})
        speaker.until(lambda: listener.kept.get("p/bridge") == "online" and len(listener.found()) == 3)


def test_when_home_assistant_starts_it_is_told_everything_again(broker: Mosquitto, bridge: Bridge) -> None:
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        bridge(speaker.address)
        speaker.heard()
        speaker.say(events(speaker.build))
        speaker.until(lambda: len(listener.found()) == 2)
        known = listener.found()
        for topic in known:
            listener.tell(topic, "", retain=True)
        listener.kept.clear()
        listener.tell("homeassistant/status", "online")
        speaker.until(lambda: listener.found() == known and listener.sensors("p") == {"door/wave": "OFF"})


def test_a_publisher_that_vanishes_leaves_nothing_on_and_may_come_back(
    broker: Mosquitto, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "SILENT_S", 0.5)
    with closing(Listener(broker)) as listener:
        with Speaker() as speaker:
            bridge(speaker.address)
            speaker.heard()
            wave = State("wave", 1, 0.75, 0)
            speaker.until(
                lambda: listener.sensors("p") == {"door/wave": "ON"},
                lambda: [speaker.build.state("door", STAMP, wave)],
            )
            speaker.until(lambda: listener.kept.get("p/door/available") == "offline")
            assert listener.sensors("p") == {"door/wave": "OFF"}
        with Speaker(speaker.address) as speaker:
            speaker.heard()
            clap = State("clap", 2, 0.75, 0)
            speaker.until(
                lambda: listener.sensors("p") == {"door/wave": "OFF", "door/clap": "ON"},
                lambda: [speaker.build.state("door", STAMP, clap)],
            )


def test_what_a_bridge_that_was_killed_left_on_is_right_after_the_next_begins(
    broker: Mosquitto, bridge: Bridge
) -> None:
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        for topic in ("p/door/label/clap", "p/hall/label/wave"):
            listener.tell(topic, "ON", retain=True)
        listener.tell("p/hall/available", "online", retain=True)
        bridge(speaker.address)
        speaker.heard()
        speaker.say(events(speaker.build)[:1])
        speaker.until(
            lambda: (
                listener.sensors("p") == {"door/wave": "ON", "door/clap": "OFF", "hall/wave": "OFF"}
                and listener.kept.get("p/hall/available") == "offline"
            )
        )


def test_ten_thousand_events_are_carried_or_counted_and_nothing_stays_on(broker: Mosquitto, bridge: Bridge) -> None:
    stop = threading.Event()
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        told = bridge(speaker.address, end=stop)
        speaker.heard()
        for number in range(5_000):  # a publisher keeps 1000 messages for a reader
            speaker.say(events(speaker.build, label=f"label {number % 50}"))
        *_, last = events(speaker.build, label="the last one")
        speaker.say([last])
        speaker.until(lambda: listener.sensors("p").get("door/the_last_one") == "OFF")
        stop.set()
        speaker.until(lambda: told)
        count = {what: int(n) for n, _, what in (part.partition(" ") for part in told[-1].split(", "))}
        assert count["events"] + count["missed"] == 10_002
        assert count["sent"] + count["dropped"] == count["events"]
        assert set(listener.sensors("p").values()) == {"OFF"}


def test_labels_of_the_model_have_sensors_before_they_happen(
    broker: Mosquitto, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.bridges import knowing

    def ask(_address: str, request: dict[str, str], _curve: None) -> dict[str, Any]:
        assert request == {"command": "status"}
        said = {"session": "run", "model": "net@1234", "knows": ["still", "wave", "clap"]}
        return {**said, "events": {"background": ["still"]}, "new": 1}

    monkeypatch.setattr(knowing, "ask", ask)
    with Speaker(session="run") as speaker, closing(Listener(broker)) as listener:
        bridge(speaker.address, knowing=Knowing("ipc://control"))
        speaker.heard()
        speaker.say([speaker.build.status("door", STAMP, "online")])
        speaker.until(lambda: listener.sensors("p") == {"door/wave": "OFF", "door/clap": "OFF"})


def test_a_bridge_whose_connection_fails_for_good_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links.Link, "_run", lambda _: None)
    made = Mqtt(parse_broker("mqtt://127.0.0.1:1"), "p", None)
    made._link._thread.join(30)
    with pytest.raises(StreamerError, match="start the bridge again"):
        made.look()


def test_a_label_that_the_model_does_not_have_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(links, "CLOSE_S", 0.1)
    knowing = Knowing("ipc://control")
    made = Mqtt(parse_broker("mqtt://127.0.0.1:1"), "p", None, ["wave", "calp"], knowing)
    knowing.news.append(("run", ["wave", "clap"]))
    made.look()
    made.close()
    assert "--label calp: the run's model tells of no such label; did you mean 'clap'?" in caplog.text
    assert "--label wave" not in caplog.text


def test_what_a_later_version_sends_is_told_in_a_sentence_and_the_rest_goes_on(
    broker: Mosquitto, bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    build = Speaker()
    with build, closing(Listener(broker)) as listener, zmq.Context() as context, context.socket(zmq.PUB) as later:
        port = later.bind_to_random_port("tcp://127.0.0.1")
        told = bridge(f"tcp://127.0.0.1:{port}")
        message = json.loads(encode(build.build.status("door", STAMP, "online")))
        assert StatusMessage.__struct_config__.tag == message["kind"]
        number = 0

        def send(**changes: Any) -> bool:
            nonlocal number
            number += 1
            payload = json.dumps({**message, "seq": number, **changes}).encode()
            later.send_multipart([b"act/1/door/status/", payload])
            return True

        build.until(lambda: send(v=2) and "cannot be read" in caplog.text)
        build.until(lambda: send(more={"new": 1}) and listener.kept.get("p/door/available") == "online")
    assert caplog.text.count("; it is of a later version, so update this program") == 1
    assert told == []
