from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from streamer.errors import ConfigError, StreamerError
from streamer.labels.events import State
from streamer.labels.messages import Message, MessageBuilder, ScoreMessage, Stamp, encode
from streamer.labels.publisher import Publisher, wall_us
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.key_rings import Keys
from tests.streamer.labels.peers import ANY_PORT, STAMP, WINDOW, collect, join, moments, one_of_each


def publish(session: str = "run") -> Publisher:
    return Publisher(ANY_PORT, "net@1234", "stream", session=session)


def subscribe(publisher: Publisher, **options: Any) -> Subscriber:
    """A subscriber that misses nothing from now on."""
    subscriber = Subscriber(publisher.address, **options)
    join(publisher, subscriber)
    return subscriber


def score(publisher: Publisher, stamp: Stamp = STAMP, stream: str = "cam1") -> ScoreMessage:
    return publisher.build.score(stream, stamp, [("wave", 0.5)], WINDOW)


def arrived(publisher: Publisher, subscriber: Subscriber, count: int) -> list[Message]:
    return collect(publisher, subscriber, lambda messages: len(messages) >= count)


def test_messages_arrive_typed_and_in_order() -> None:
    with publish() as publisher, subscribe(publisher) as subscriber:
        sent = one_of_each(publisher.build)
        for message in sent:
            publisher.send(message)
        assert arrived(publisher, subscriber, len(sent)) == sent
        assert (subscriber.missed, subscriber.dropped, subscriber.stale, subscriber.invalid) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"streams": ["cam1", "join"]}, {("cam1", kind) for kind in ("event", "state", "score", "status", "gap")}),
        ({"kinds": ["gap", "state"]}, {(stream, kind) for stream in ("cam1", "cam10") for kind in ("gap", "state")}),
        ({"streams": ["cam10", "join"], "kinds": ["state", "score"]}, {("cam10", "state"), ("cam10", "score")}),
    ],
)
def test_only_the_chosen_streams_and_kinds_arrive(options: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    with publish() as publisher, subscribe(publisher, **options) as subscriber:
        for stream in ("cam1", "cam10"):
            for message in one_of_each(publisher.build, stream):
                publisher.send(message)
        last = publisher.build.state("join", Stamp(), State())
        publisher.send(last)
        messages = collect(publisher, subscriber, lambda got: last in got)
        assert {(message.stream, message.kind) for message in messages} - {("join", "state")} == expected
        assert subscriber.missed == 0


def test_holes_in_seq_are_counted_as_missed() -> None:
    with publish() as publisher, subscribe(publisher) as subscriber:
        for lost in (0, 2, 0, 1):
            for _ in range(lost):
                score(publisher)  # takes a number, and is not sent
            publisher.send(score(publisher))
        publisher.send(score(publisher, stream="cam2"))
        messages = arrived(publisher, subscriber, 5)
        assert [message.seq for message in messages] == [0, 3, 4, 6, 0]
        assert subscriber.missed == 3


def test_joining_late_is_not_missing() -> None:
    with publish() as publisher:
        for _ in range(5):
            publisher.send(score(publisher))
        with subscribe(publisher) as subscriber:
            publisher.send(score(publisher))
            assert [message.seq for message in arrived(publisher, subscriber, 1)] == [5]
            assert subscriber.missed == 0


def test_what_is_sent_again_for_another_subscriber_is_not_repeated() -> None:
    with publish() as publisher, subscribe(publisher) as subscriber:
        publisher.send(publisher.build.status("cam1", STAMP, "online"))
        assert len(arrived(publisher, subscriber, 1)) == 1
        with subscribe(publisher):  # everyone is sent the state of `join` and the status of `cam1` again
            publisher.send(publisher.build.status("cam1", STAMP, "ended"))
            messages = collect(publisher, subscriber, lambda got: any(message.kind == "status" for message in got))
        assert [(message.kind, message.seq) for message in messages if message.stream == "cam1"] == [("status", 1)]
        assert subscriber.missed == 0


def test_a_new_session_counts_from_its_own_beginning() -> None:
    with publish("first") as first, subscribe(first) as subscriber:
        for _ in range(9):
            first.send(score(first))
        arrived(first, subscriber, 9)
        first.close()
        with Publisher(first.address, "net@1234", "stream", session="second") as second:
            join(second, subscriber)
            for _ in range(2):
                second.send(score(second))
            messages = collect(second, subscriber, lambda got: len([one for one in got if one.kind == "score"]) == 2)
    assert [message.seq for message in messages if message.kind == "score"] == [0, 1]
    assert subscriber.missed == 0


def test_latest_keeps_the_newest_of_each_stream_and_kind() -> None:
    with publish() as publisher, subscribe(publisher, mode="latest") as subscriber:
        for _ in range(50):
            publisher.send(score(publisher))
            publisher.send(score(publisher, stream="cam2"))
        for _ in moments():
            if subscriber.dropped == 98:
                break
        messages = arrived(publisher, subscriber, 2)
        assert [(message.stream, message.seq) for message in messages] == [("cam1", 49), ("cam2", 49)]
        assert subscriber.missed == 0


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    with publish() as publisher, subscribe(publisher, queue=10) as subscriber:
        for _ in range(50):
            publisher.send(score(publisher))
        for _ in moments():
            if subscriber.dropped == 40:
                break
        assert [message.seq for message in arrived(publisher, subscriber, 10)] == list(range(40, 50))
        assert (subscriber.dropped, subscriber.missed) == (40, 0)


def test_stale_labels_are_skipped_and_counted_but_not_status_and_gap() -> None:
    with publish() as publisher, subscribe(publisher, max_age_ms=60_000) as subscriber:
        now, old = Stamp(frame_us=wall_us()), Stamp(frame_us=wall_us() - 61_000_000)
        publisher.send(score(publisher, old))
        publisher.send(publisher.build.status("cam1", old, "stalled"))
        publisher.send(publisher.build.state("cam1", old, State()))
        publisher.send(publisher.build.gap("cam1", old, 1, 2, "stalled"))
        publisher.send(score(publisher, now))
        messages = arrived(publisher, subscriber, 3)
        assert [(message.kind, message.seq) for message in messages] == [("status", 0), ("gap", 0), ("score", 1)]
        assert (subscriber.stale, subscriber.missed) == (2, 0)


def test_what_waited_here_is_stale_even_when_the_clock_was_set_back_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with publish() as publisher, subscribe(publisher, max_age_ms=60_000) as subscriber:
        publisher.send(score(publisher, Stamp(frame_us=wall_us())))
        assert len(arrived(publisher, subscriber, 1)) == 1
        publisher.send(score(publisher, Stamp(frame_us=wall_us())))
        for _ in moments():
            if subscriber._unread:
                break
        now, now_s = time.time(), time.monotonic()
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        monkeypatch.setattr(time, "monotonic", lambda: now_s + 61)
        with subscriber._changed:
            assert subscriber._take() is None
        assert subscriber.stale == 1
        monkeypatch.undo()


def test_what_is_not_a_label_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    good = encode(MessageBuilder("m", "stream").gap("cam1", STAMP, 1, 2, "stalled"))
    with zmq.Context() as context, context.socket(zmq.XPUB) as bare:
        bare.bind(ANY_PORT)
        with Subscriber(bare.getsockopt_string(zmq.LAST_ENDPOINT), timeout_s=30) as subscriber:
            assert bare.recv() == b"\x01act/1/"
            bare.send_multipart([b"act/1/cam1/gap/", b"{}"])
            bare.send_multipart([b"act/1/cam1/gap/"])
            bare.send_multipart([b"act/1/cam1/gap/", good, b"more"])
            bare.send_multipart([b"act/1/cam1/pose/", b"of a later version"])
            bare.send_multipart([b"act/1/cam1/gap/", good])
            with caplog.at_level(logging.WARNING):
                assert next(subscriber).kind == "gap"
            assert subscriber.invalid == 3
    (record,) = caplog.records
    assert "act/1/cam1/gap/ cannot be read" in record.getMessage()


def test_an_iteration_that_waits_too_long_raises_and_may_go_on() -> None:
    with publish() as publisher, subscribe(publisher, timeout_s=0.02) as subscriber:
        with pytest.raises(TimeoutError, match=r"no message for 0\.02 s"):
            next(subscriber)
        publisher.send(score(publisher))
        assert len(arrived(publisher, subscriber, 1)) == 1


def test_closing_in_another_thread_ends_the_iteration() -> None:
    with publish() as publisher:
        subscriber = Subscriber(publisher.address)
        closer = threading.Timer(0.05, subscriber.close)
        closer.start()
        assert list(subscriber) == []
        closer.join()
        assert list(subscriber) == []
        subscriber.close()


def test_a_failure_of_the_receiving_thread_surfaces_in_the_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    with publish() as publisher, subscribe(publisher) as subscriber:
        monkeypatch.setattr("streamer.labels.subscriber.decode", lambda *_: 1 / 0)
        publisher.send(score(publisher))
        for _ in range(2):
            with pytest.raises(StreamerError, match="receiving failed: division by zero"):
                next(subscriber)


async def take(subscriber: Subscriber, count: int) -> list[Message]:
    messages: list[Message] = []
    async for message in subscriber:
        messages.append(message)
        if len(messages) == count:
            break
    return messages


def test_async_iteration_gives_the_messages_while_the_loop_does_other_things() -> None:
    async def scenario(publisher: Publisher, subscriber: Subscriber) -> None:
        taking = asyncio.create_task(take(subscriber, 8))
        sent = one_of_each(publisher.build)
        for message in sent:
            await asyncio.sleep(0.001)
            publisher.send(message)
        assert await taking == sent

    with publish() as publisher, subscribe(publisher) as subscriber:
        asyncio.run(scenario(publisher, subscriber))


def test_an_async_iteration_that_waits_too_long_or_is_cancelled_loses_nothing() -> None:
    async def scenario(publisher: Publisher, subscriber: Subscriber) -> None:
        with pytest.raises(TimeoutError, match=r"no message for 0\.02 s"):
            await take(subscriber, 1)
        waiting = asyncio.create_task(take(subscriber, 1))
        await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with publish() as publisher, subscribe(publisher, timeout_s=0.02) as subscriber:
        asyncio.run(scenario(publisher, subscriber))
        publisher.send(score(publisher))
        assert [message.seq for message in arrived(publisher, subscriber, 1)] == [0]


def test_closing_ends_the_async_iteration() -> None:
    async def scenario(subscriber: Subscriber) -> None:
        taking = asyncio.create_task(take(subscriber, 1))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(subscriber.close)
        assert await taking == []

    with publish() as publisher:
        asyncio.run(scenario(Subscriber(publisher.address)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"address": "localhost:5557"}, "'localhost:5557' is not an address: use tcp://"),
        ({"address": "http://127.0.0.1:80"}, "is not an address: use tcp://"),
        ({"address": "tcp://127.0.0.1:*"}, "names no port to connect to"),
        ({"address": "tcp://127.0.0.1:0"}, "names no port to connect to"),
        ({"address": "tcp://127.0.0.1:70000"}, "a port is at most 65535"),
        ({"address": "tcp://*:5557"}, r"cannot connect to 'tcp://\*:5557'"),
        ({"streams": ["Cam 1"]}, "'Cam 1' cannot name a stream"),
        ({"streams": "cam1"}, r"write \['cam1'\]"),
        ({"kinds": "event"}, r"write \['event'\]"),
        ({"kinds": ["events"]}, "no messages of kind 'events'; choose from event, state, score, status, gap"),
        ({"mode": "newest"}, "mode 'newest' is neither 'all' nor 'latest'"),
    ],
)
def test_arguments_that_cannot_be_right_are_errors_that_help(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Subscriber(**{"address": "tcp://127.0.0.1:5557", **options})


def test_it_tells_why_it_is_silent(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "alice")
    plain = publish()
    secret = Publisher(ANY_PORT, "net@1234", "stream", curve=keys.config)
    with plain, secret, socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=answer_like_a_web_server, args=(other,), daemon=True).start()
        web = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("tcp://127.0.0.1:1", {}, "nobody listens there; is a run going on"),
            (f"ipc://{tmp_path}/nothing", {}, "there is no such socket"),
            (secret.address, {}, "it encrypts, and no keys are given"),
            (secret.address, {"curve": keys.curve("mallory")}, "is yours in its authorized_keys_dir?"),
            (plain.address, {"curve": keys.curve("alice")}, "it does not encrypt, but keys are given"),
            (plain.address, {"kinds": ["gap"]}, "are the streams and kinds right?"),
            (plain.address, {}, "it is there, but sends nothing"),
            (web, {}, "is no publisher of labels"),
        ]
        for address, options, why in cases:
            with Subscriber(address, **options) as subscriber:
                assert why in subscriber.why_silent(), address


def answer_like_a_web_server(listening: socket.socket) -> None:
    with suppress(OSError):
        while True:
            with listening.accept()[0] as peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
