"""What a broker is told, message by message; no broker here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from streamer.bridges import board as boards
from streamer.bridges.board import SILENT_S, Board, Post
from streamer.labels.events import State
from streamer.labels.messages import Message, MessageBuilder
from tests.streamer.bridges.peers import events
from tests.streamer.labels.peers import STAMP


class Broker:
    """What a broker has after the posts."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.kept: dict[str, str] = {}
        self.came: list[dict[str, Any]] = []

    def hear(self, posts: Iterable[Post]) -> None:
        for post in posts:
            if post.retained:
                self.kept[post.topic] = post.payload.decode()
            else:
                self.came.append(json.loads(post.payload))

    def take(self, *messages: Message, now_s: float = 0.0) -> None:
        for message in messages:
            self.hear(self.board.take(message, now_s))

    @property
    def on(self) -> list[str]:
        return [topic for topic, payload in self.kept.items() if payload == "ON"]


@pytest.fixture
def build() -> MessageBuilder:
    return MessageBuilder("net@1", "stream", "run", lambda: 0)


@pytest.fixture
def broker() -> Broker:
    return Broker(Board("p", "homeassistant"))


def state(build: MessageBuilder, label: str | None, stream: str = "door") -> Message:
    return build.state(stream, STAMP, State(label, None if label is None else 1, None, None))


def test_a_label_is_on_from_the_start_of_an_event_to_its_end(broker: Broker, build: MessageBuilder) -> None:
    start, end = events(build)
    broker.take(start)
    assert broker.on == ["p/door/label/wave"]
    broker.take(end)
    assert broker.on == []
    assert broker.kept["p/door/label/wave"] == "OFF"
    assert [(event["event_type"], event["label"]) for event in broker.came] == [("start", "wave"), ("end", "wave")]


def test_an_end_that_was_lost_is_made_good_by_the_next_state(broker: Broker, build: MessageBuilder) -> None:
    start, _ = events(build)
    broker.take(start, state(build, "wave"))
    assert broker.on == ["p/door/label/wave"]
    broker.take(state(build, "clap"))
    assert broker.on == ["p/door/label/clap"]
    broker.take(state(build, None))
    assert broker.on == []


def test_an_end_that_comes_late_switches_nothing_else_off(broker: Broker, build: MessageBuilder) -> None:
    start, end = events(build)
    broker.take(start, state(build, "clap"), end)
    assert broker.on == ["p/door/label/clap"]


def test_another_run_and_another_model_switch_off_what_the_one_before_had_on(
    broker: Broker, build: MessageBuilder
) -> None:
    broker.take(events(build)[0], build.status("hall", STAMP, "online"))
    next_run = MessageBuilder("net@1", "stream", "next run", lambda: 0)
    broker.take(next_run.status("door", STAMP, "online"))
    assert broker.on == []
    broker.take(events(next_run)[0])
    next_run.become("other@2", "stream")
    broker.take(next_run.status("door", STAMP, "online"))
    assert broker.on == []
    found = json.loads(broker.kept["homeassistant/binary_sensor/p-door/wave/config"])
    assert found["device"]["model"] == "other@2"


def test_a_run_that_falls_silent_has_nothing_on_and_is_not_available(broker: Broker, build: MessageBuilder) -> None:
    broker.take(events(build)[0], now_s=100.0)
    broker.hear(broker.board.look(100.0 + SILENT_S))
    assert broker.on == ["p/door/label/wave"]
    assert broker.kept["p/door/available"] == "online"
    broker.hear(broker.board.look(100.1 + SILENT_S))
    assert broker.on == []
    assert broker.kept["p/door/available"] == "offline"
    broker.take(state(build, "wave"), now_s=200.0)
    assert broker.on == ["p/door/label/wave"]
    assert broker.kept["p/door/available"] == "online"


@pytest.mark.parametrize(
    ("source", "available"),
    [
        ("online", True),
        ("degraded", True),
        ("stalled", False),
        ("offline", False),
        ("ended", False),
        ("stopped", False),
    ],
)
def test_a_stream_is_available_while_its_source_is(
    broker: Broker, build: MessageBuilder, source: Any, available: bool
) -> None:
    broker.take(build.status("door", STAMP, source, "why"), state(build, None))
    assert broker.kept["p/door/available"] == ("online" if available else "offline")
    assert json.loads(broker.kept["p/door/status"])["detail"] == "why"


def test_a_stream_that_stops_has_nothing_on(broker: Broker, build: MessageBuilder) -> None:
    broker.take(events(build)[0], build.status("door", STAMP, "stopped"))
    assert broker.on == []


def test_the_end_of_the_bridge_switches_everything_off(broker: Broker, build: MessageBuilder) -> None:
    broker.take(events(build)[0], events(build, "hall")[0])
    broker.hear(broker.board.close())
    assert broker.on == []
    assert (broker.kept["p/door/available"], broker.kept["p/hall/available"]) == ("offline", "offline")


def test_what_a_bridge_that_was_killed_left_on_is_switched_off(broker: Broker, build: MessageBuilder) -> None:
    broker.take(events(build)[0])
    for topic in ("p/door/label/wave", "p/door/label/clap", "p/hall/label/wave", "p/hall/label/clap"):
        broker.hear(broker.board.found(topic, b"OFF" if topic == "p/hall/label/clap" else b"ON"))
    broker.hear(broker.board.found("p/hall/available", b"online"))
    broker.hear(broker.board.found("p/door/available", b"online"))
    broker.hear(broker.board.found("p/hall/what/is/this", b"ON"))
    assert {topic: text for topic, text in broker.kept.items() if "/label/" in topic or "/available" in topic} == {
        "p/door/label/wave": "ON",
        "p/door/available": "online",
        "p/door/label/clap": "OFF",
        "p/hall/label/wave": "OFF",
        "p/hall/available": "offline",
    }


def test_the_state_is_told_when_the_label_changes(broker: Broker, build: MessageBuilder) -> None:
    posts = [post for _ in range(5) for post in broker.board.take(state(build, "wave"), 0.0)]
    assert [post.topic for post in posts].count("p/door/state") == 1


def test_labels_that_are_chosen_have_sensors_at_once_and_others_none(build: MessageBuilder) -> None:
    broker = Broker(Board("p", "homeassistant", ["wave", "moving left"]))
    broker.take(build.status("door", STAMP, "online"))
    assert broker.kept["p/door/label/wave"] == broker.kept["p/door/label/moving_left"] == "OFF"
    broker.take(*events(build, label="clap"))
    broker.hear(broker.board.expect("run", ["wave", "clap", "jump"]))
    assert [topic for topic in broker.kept if "clap" in topic or "jump" in topic] == []
    assert broker.came == []


def test_labels_that_a_run_knows_have_sensors_before_they_happen(broker: Broker, build: MessageBuilder) -> None:
    broker.take(build.status("door", STAMP, "online"), build.status("hall", STAMP, "online"))
    broker.hear(broker.board.expect("run", ["wave", "clap"]))
    broker.hear(broker.board.expect("run", map(str, range(101))))
    broker.take(build.status("gate", STAMP, "online"))
    found = [topic for topic in broker.kept if "binary_sensor" in topic]
    assert found == [
        f"homeassistant/binary_sensor/p-{stream}/{label}/config"
        for stream in ("door", "hall", "gate")
        for label in ("wave", "clap")
    ]


def test_without_discovery_home_assistant_is_told_nothing(build: MessageBuilder) -> None:
    broker = Broker(Board("p", None))
    broker.take(*events(build))
    assert sorted(broker.kept) == ["p/door/available", "p/door/label/wave"]


def test_a_stream_that_is_away_makes_room_for_another_one(
    broker: Broker, build: MessageBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "MOST_STREAMS", 3)
    for number in range(10):
        stream = f"cam{number}"
        broker.take(*events(build, stream), state(build, None, stream), now_s=number)
        broker.take(build.status(stream, STAMP, "online" if number == 5 else "stopped"), now_s=number)
    assert broker.board.passed_over == 0
    for number in range(10):
        kept = {text for topic, text in broker.kept.items() if f"cam{number}/" in topic}
        assert (kept == {""}) == (number not in (5, 8, 9))


def test_streams_and_labels_without_end_are_bounded_and_counted(
    broker: Broker, build: MessageBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "MOST_STREAMS", 2)
    monkeypatch.setattr(boards, "MOST_LABELS", 3)
    for number in range(10):
        broker.take(build.status(f"cam{number}", STAMP, "online"), events(build, "cam0", f"label {number}")[0])
    assert len([topic for topic in broker.kept if "/label/" in topic]) == 3
    assert len([topic for topic in broker.kept if topic.endswith("/status")]) == 2
    assert broker.board.passed_over == 8 + 7
    assert broker.on == []
    assert len(broker.came) == 10
