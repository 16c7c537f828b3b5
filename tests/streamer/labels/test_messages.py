from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamer
from streamer.errors import ConfigError, StreamerError
from streamer.labels.events import Event
from streamer.labels.messages import KINDS, MessageBuilder, Stamp, decode, encode, schema, split_topic, topic, topk
from tests.streamer.labels.peers import END, STAMP, START, WINDOW, one_of_each

COMMON = {"v", "kind", "stream", "session", "epoch", "seq", "model", "mode", "ready", "ts", "age_ms"}
EXTRA = {
    "event": {"id", "type", "label", "label_id", "score", "peak", "t_start_us", "t_end_us", "reason", "clip"},
    "state": {"label", "label_id", "score", "since_us"},
    "score": {"topk", "window"},
    "status": {
        "source", "detail", "captured", "dropped", "inferred", "reconnects", "fps_in", "step_ms_p50", "step_ms_p99",
        "stage", "since_us", "retry_us",
    },
    "gap": {"from_us", "to_us", "reason"},
}  # fmt: skip


def builder() -> MessageBuilder:
    return MessageBuilder("net@1234", "stream", session="run", now_us=lambda: 1_700_000_000_050_000)


def test_messages_have_the_fields_of_version_1_and_no_others() -> None:
    kinds = set()
    for message in one_of_each(builder()):
        fields = json.loads(encode(message))
        assert set(fields) == COMMON | EXTRA[fields["kind"]]
        assert (fields["v"], fields["session"], fields["model"], fields["mode"]) == (1, "run", "net@1234", "stream")
        assert set(fields["ts"]) == {"frame_us", "infer_us", "pub_us"}
        kinds.add(fields["kind"])
    assert kinds == set(KINDS)


def test_the_common_part_tells_where_the_stream_stands() -> None:
    message = builder().gap("cam1", STAMP, 1, 2, "stalled")
    assert (message.epoch, message.ready, message.seq) == (2, True, 0)
    assert (message.ts.frame_us, message.ts.infer_us) == (STAMP.frame_us, STAMP.infer_us)
    assert (message.ts.pub_us, message.age_ms) == (1_700_000_000_050_000, 50.0)
    assert builder().status("cam1", Stamp(), "connecting").age_ms is None


def test_only_in_a_fleet_messages_tell_the_machine_and_the_term() -> None:
    build = MessageBuilder("net@1234", "stream", node="north")
    message = build.gap("cam1", Stamp(term=2**33), 1, 2, "gap")
    fields = json.loads(encode(message))
    assert set(fields) == COMMON | EXTRA["gap"] | {"node", "term"}
    assert (fields["node"], fields["term"]) == ("north", 2**33)
    assert decode(b"act/1/cam1/gap/", encode(message)) == message


def test_every_message_survives_the_wire() -> None:
    for message in one_of_each(builder()):
        name = topic("cam1", message.kind)
        assert name == f"act/1/cam1/{message.kind}/"
        assert decode(name.encode(), encode(message)) == message


def test_seq_has_no_holes_per_stream_and_kind() -> None:
    build = builder()
    messages = [message for _ in range(3) for stream in ("a", "b") for message in one_of_each(build, stream)]
    for stream in ("a", "b"):
        for kind in KINDS:
            numbers = [message.seq for message in messages if (message.stream, message.kind) == (stream, kind)]
            assert numbers == list(range(len(numbers)))


def test_an_event_keeps_its_id_and_no_other_event_has_it() -> None:
    build = builder()
    wave, update = START, Event("update", "wave", 1, 0.9, 0.9, START.t_start_us)
    ids = [
        [build.event(stream, STAMP, event).id for event in (wave, update, END)]
        for stream in ("a", "a-0", "a", "a-0", "a")
    ]
    assert all(len(set(one)) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(ids)


def test_a_recording_gives_the_same_bytes_each_time() -> None:
    first, second = (
        [encode(message) for message in one_of_each(MessageBuilder("net@1234", "window", session="replay"))]
        for _ in range(2)
    )
    assert first == second
    assert json.loads(first[0])["ts"]["pub_us"] == STAMP.frame_us


def test_sessions_differ_unless_they_are_given() -> None:
    assert MessageBuilder("m", "stream").session != MessageBuilder("m", "stream").session


def test_probabilities_are_written_with_six_decimals() -> None:
    probabilities = np.array([0.1, 0.3, 0.3, 0.3], dtype=np.float32)
    assert topk(["a", "b", "c", "d"], probabilities, 3) == [("b", 0.3), ("c", 0.3), ("d", 0.3)]
    assert topk(["a", "b", "c", "d"], probabilities, 9)[3] == ("a", 0.1)
    many = [f"label {number}" for number in range(1000)]
    assert [label for label, _ in topk(many, np.tile(np.array([0.3, 0.1], dtype=np.float32), 500), 1000)] == many[
        ::2
    ] + many[1::2]
    event = Event("start", "b", 1, float(probabilities[1]), float(probabilities[1]), 0)
    assert b'"score":0.3,' in encode(builder().event("cam1", STAMP, event))


def test_fields_of_later_versions_are_ignored() -> None:
    message = builder().score("cam1", STAMP, [("wave", 0.5)], WINDOW)
    fields = {**json.loads(encode(message)), "added": {"later": [1, 2]}}
    assert decode(b"act/1/cam1/score/", json.dumps(fields).encode()) == message


def test_the_topic_tells_the_stream_when_the_payload_does_not() -> None:
    fields = json.loads(encode(builder().gap("cam1", STAMP, 1, 2, "stalled")))
    del fields["stream"]
    assert decode(b"act/1/cam7/gap/", json.dumps(fields).encode()).stream == "cam7"


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        (b"act/1/cam1/event", {}, "is not a topic of labels"),
        (b"act/2/cam1/event/", {}, "is not a topic of labels"),
        (b"act/1/Cam 1/event/", {}, "is not a topic of labels"),
        (b"act/1/cam1/event/\n", {}, "is not a topic of labels"),
        (b"\xff", {}, "is not a topic of labels"),
        (b"act/1/cam1/gap/", {}, r"on act/1/cam1/gap/ says that it is a 'event'"),
        (b"act/1/cam1/event/", {"seq": "7"}, r"on act/1/cam1/event/ cannot be read: .*\$\.seq"),
        (b"act/1/cam1/event/", {"kind": "frame"}, r"cannot be read: .*\$\.kind"),
        (b"act/1/cam1/event/", {"v": 2}, r"cannot be read: .*\$\.v.*of a later version, so update"),
        (b"act/1/cam1/event/", {"type": "\x1b[2J"}, r"cannot be read: .*\\\\x1b"),
    ],
)
def test_what_is_not_a_label_is_an_error_that_says_what(name: bytes, change: dict[str, object], error: str) -> None:
    fields = {**json.loads(encode(builder().event("cam1", STAMP, START))), **change}
    with pytest.raises(StreamerError, match=error):
        decode(name, json.dumps(fields).encode())


def test_payloads_nested_too_deeply_are_an_error_not_a_crash() -> None:
    with pytest.raises(StreamerError, match="cannot be read"):
        decode(b"act/1/cam1/gap/", b'{"kind":"gap","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_no_bytes_raise_anything_but_a_clear_error(name: bytes, payload: bytes) -> None:
    for candidate in (name, b"act/1/cam1/event/"):
        with pytest.raises(StreamerError):
            decode(candidate, payload)


def test_a_later_kind_has_a_topic_too() -> None:
    assert split_topic(b"act/1/cam_1-x/pose/") == ("cam_1-x", "pose")


@pytest.mark.parametrize("stream", ["", "Cam1", "cam 1", "cam/1", "a" * 65, "käm", "cam1\n"])
def test_a_stream_that_cannot_stand_in_a_topic_is_an_error(stream: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a stream"):
        topic(stream, "event")


def test_the_shipped_schema_is_the_one_of_the_types() -> None:
    shipped = Path(streamer.__file__).with_name("labels") / "labels.schema.json"
    expected = f"{json.dumps(schema(), indent=2)}\n"
    assert shipped.read_text() == expected, f"write json.dumps(schema(), indent=2) and a newline to {shipped}"


def test_the_schema_accepts_real_messages_and_what_later_versions_add() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    for message in one_of_each(builder()):
        validator.validate({**msgspec.json.decode(encode(message)), "added": 1})


@pytest.mark.parametrize("change", [{"v": 2}, {"seq": 0.5}, {"type": "begin"}, {"label": None}, {"ts": {}}])
def test_the_schema_refuses_what_is_not_version_1(change: dict[str, object]) -> None:
    fields = {**json.loads(encode(builder().event("cam1", STAMP, START))), **change}
    assert not jsonschema.Draft202012Validator(schema()).is_valid(fields)
