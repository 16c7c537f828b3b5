from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from dataclasses import replace

import msgspec

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, decode
from streamer.labels.news import print_messages
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import ANY_PORT, STAMP, START, join, one_of_each

HOSTILE = "wave\x1b[2J\n\x9b31m\u202e\U000e0041é"


def builder() -> MessageBuilder:
    return MessageBuilder("net@1234", "stream", session="run")


def printed(messages: list[Message], *, as_json: bool = False, verbose: bool = False) -> list[str]:
    out = io.StringIO()
    print_messages(messages, out, as_json=as_json, verbose=verbose)
    return out.getvalue().splitlines()


def test_people_see_a_line_for_each_start_end_change_of_a_source_and_gap() -> None:
    assert printed(one_of_each(builder())) == [
        "22:13:20.000Z  cam1  start   wave 0.81",
        "22:13:20.000Z  cam1  end     wave 0.94 after 1.50 s (score)",
        "22:13:20.000Z  cam1  source  online 640x480",
        "00:00:00.000  cam1  source  connecting",
        "22:13:20.000Z  cam1  gap     2.00 s lost (stalled)",
    ]


def test_the_label_in_force_and_updates_are_for_those_who_ask_for_more() -> None:
    build = builder()
    told = [START, replace(START, type="update")]
    messages: list[Message] = [build.event("cam1", STAMP, event) for event in told]
    messages.append(build.state("cam1", STAMP, State("wave")))
    assert [line.split()[2] for line in printed(messages)] == ["start"]
    assert [line.split()[2] for line in printed(messages, verbose=True)] == ["start", "update", "label"]


def test_lines_have_the_time_at_which_they_were_told_so_that_no_time_runs_backward() -> None:
    clock = itertools.count(1_700_000_000_000_000, 50_000)
    build = MessageBuilder("net@1234", "stream", now_us=lambda: next(clock))
    lines = printed([build.status("cam1", STAMP, "online"), build.event("cam1", STAMP, START)])  # it began before
    assert [line.split()[0] for line in lines] == ["22:13:20.000Z", "22:13:20.050Z"]


def test_a_clock_that_was_set_is_told_by_how_much_and_not_as_time_that_was_lost() -> None:
    gap = builder().gap("cam1", STAMP, 1_700_003_600_000_000, 1_700_000_000_000_000, "clock")
    assert printed([gap]) == ["22:13:20.000Z  cam1  gap     -3600.00 s by the clock (clock)"]


def test_another_model_is_told_by_its_name() -> None:
    assert printed([builder().gap("cam1", STAMP, 1, 1_700_000_000_000_000, "model")]) == [
        "22:13:20.000Z  cam1  gap     now by net@1234 (model)"
    ]


def test_what_did_not_change_is_not_printed_again() -> None:
    build = builder()
    messages: list[Message] = []
    for stream in ("cam1", "cam2"):
        for label in ("wave", "wave", None, None, "wave"):
            messages.append(build.state(stream, STAMP, State(label)))
            messages.append(build.status(stream, STAMP, "online", captured=len(messages)))
    assert [line.split()[1:] for line in printed(messages, verbose=True) if "cam1" in line] == [
        ["cam1", "label", "wave"],
        ["cam1", "source", "online"],
        ["cam1", "label", "-"],
        ["cam1", "label", "wave"],
    ]
    assert len(printed(messages, verbose=True)) == 8


def test_json_is_every_message_one_object_a_line() -> None:
    sent = one_of_each(builder())
    lines = printed(sent, as_json=True)
    topics = [f"act/1/cam1/{message.kind}/".encode() for message in sent]
    assert [decode(topic, line.encode()) for topic, line in zip(topics, lines, strict=True)] == sent


def test_nothing_from_the_network_can_steer_the_terminal() -> None:
    build = builder()
    event = Event("start", HOSTILE, 0, 0.5, 0.5, 0)
    hostile: list[Message] = [build.event("cam1", STAMP, event), build.status("cam1", STAMP, "offline", HOSTILE)]
    escaped = r"wave\u001b[2J\u000a\u009b31m\u202e\udb40\udc41é"
    for line in printed(hostile):
        assert line.isprintable()
        assert escaped in line
    for line in printed(hostile, as_json=True):
        assert line.isprintable()
        fields = json.loads(line)
        assert HOSTILE in (fields.get("label"), fields.get("detail"))


def test_times_beyond_any_calendar_are_printed_too() -> None:
    far = Stamp(frame_us=2**63 - 1)
    assert printed([builder().event("cam1", far, START)])[0].endswith("start   wave 0.81")


def test_messages_of_a_publisher_are_printed_until_the_subscriber_closes() -> None:
    class Out(io.StringIO):
        def flush(self) -> None:
            subscriber.close()  # the first line is out

    out = Out()
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher:
        subscriber = Subscriber(publisher.address)
        join(publisher, subscriber)
        publisher.send(publisher.build.event("cam1", STAMP, START))
        print_messages(subscriber, out)
    assert "start   wave" in out.getvalue()


ENDLESS = """
import sys
from streamer.labels.messages import MessageBuilder, Stamp
from streamer.labels.news import print_messages
build = MessageBuilder("net@1234", "stream")
print_messages((build.gap("cam1", Stamp(), 0, 1, "stalled") for _ in iter(int, 1)), sys.stdout, as_json=True)
"""


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert msgspec.json.decode(process.stdout.readline())["kind"] == "gap"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 0
