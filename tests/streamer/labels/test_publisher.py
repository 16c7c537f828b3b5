from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from select import select

import pytest
import zmq

from streamer.labels.events import State
from streamer.labels.messages import Stamp
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import (
    END,
    STAMP,
    START,
    WINDOW,
    collect,
    join,
    moments,
    one_of_each,
    publisher_at,
)

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
INCLUDES = Path("/usr/include")
NODE_MODULES = ROOT / ".venv" / "node_modules"  # where the Makefile puts them


@pytest.fixture
def connect() -> Iterator[Callable[[str, str], zmq.Socket[bytes]]]:
    """Bare sockets that subscribe to a prefix, as a program in any language would."""
    with zmq.Context() as context, ExitStack() as opened:

        def connect(address: str, prefix: str) -> zmq.Socket[bytes]:
            bare = opened.enter_context(context.socket(zmq.SUB))
            bare.connect(address)
            bare.setsockopt_string(zmq.SUBSCRIBE, prefix)
            return bare

        yield connect


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Processes that end with the test: of Python, or of another program."""
    with ExitStack() as started:

        def spawn(*arguments: str, program: str = sys.executable) -> subprocess.Popen[str]:
            modules = os.environ | {"NODE_PATH": str(NODE_MODULES)}
            process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True, env=modules)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield spawn


def receive(publisher: Publisher, bare: zmq.Socket[bytes], count: int) -> list[tuple[str, bytes]]:
    received = []
    for _ in moments():
        publisher.poll()
        while bare.poll(0):
            topic, payload = bare.recv_multipart()
            received.append((topic.decode(), payload))
        if len(received) >= count:
            break
    return received


def read_line(publisher: Publisher, process: subprocess.Popen[str], send: Callable[[], None] | None = None) -> str:
    """A line that the process prints, while the publisher answers subscriptions and sends."""
    assert process.stdout is not None
    for _ in moments():
        publisher.poll()
        if send:
            send()
        if select([process.stdout], [], [], 0)[0]:
            break
    return process.stdout.readline().rstrip()


def test_a_late_joiner_gets_the_last_state_and_status_of_what_it_subscribed_to(
    connect: Callable[..., zmq.Socket[bytes]],
) -> None:
    with publisher_at() as publisher:
        for stream in ("cam1", "cam10"):
            for message in one_of_each(publisher.build, stream):
                publisher.send(message)
        bare = connect(publisher.address, "act/1/cam1/")
        received = receive(publisher, bare, 2)
        assert [topic for topic, _ in received] == ["act/1/cam1/state/", "act/1/cam1/status/"]
        fields = [json.loads(payload) for _, payload in received]
        assert [(one["stream"], one["seq"]) for one in fields] == [("cam1", 1), ("cam1", 1)]
        assert fields[1]["source"] == "connecting"

        everything = connect(publisher.address, "")
        assert len(receive(publisher, everything, 4)) == 4


def test_a_joiner_is_answered_without_repeats_for_those_who_read_other_streams(
    connect: Callable[..., zmq.Socket[bytes]],
) -> None:
    with publisher_at() as publisher:
        for stream in ("cam1", "cam2"):
            publisher.send(publisher.build.status(stream, STAMP, "online"))
        other = connect(publisher.address, "act/1/cam2/")
        assert len(receive(publisher, other, 1)) == 1
        assert len(receive(publisher, connect(publisher.address, "act/1/cam1/"), 1)) == 1
        publisher.send(publisher.build.gap("cam2", STAMP, 1, 2, "stalled"))
        assert [topic for topic, _ in receive(publisher, other, 1)] == ["act/1/cam2/gap/"]


def test_every_joiner_is_answered_also_the_second_with_the_same_topic(
    connect: Callable[..., zmq.Socket[bytes]],
) -> None:
    with publisher_at() as publisher:
        publisher.send(publisher.build.status("cam1", STAMP, "online"))
        for _ in range(3):
            ((topic, payload),) = receive(publisher, connect(publisher.address, "act/1/"), 1)
            assert (topic, json.loads(payload)["seq"]) == ("act/1/cam1/status/", 0)


def test_a_topic_without_state_or_status_answers_nothing_and_goes_on(connect: Callable[..., zmq.Socket[bytes]]) -> None:
    with publisher_at() as publisher:
        for message in one_of_each(publisher.build):
            publisher.send(message)
        bare = connect(publisher.address, "act/1/cam1/event/")
        number = 2
        for _ in moments():
            publisher.poll()
            publisher.send(publisher.build.event("cam1", STAMP, START))
            number += 1
            if bare.poll(0):
                break
        topic, payload = bare.recv_multipart()
        assert topic == b"act/1/cam1/event/"
        assert 2 <= json.loads(payload)["seq"] < number


def test_closing_tells_each_stream_once_that_it_stopped(connect: Callable[..., zmq.Socket[bytes]]) -> None:
    publisher = publisher_at()
    publisher.send(publisher.build.status("cam1", STAMP, "online", captured=7, dropped={"buffer": 2}))
    publisher.send(publisher.build.state("cam1", Stamp(epoch=3), State()))
    publisher.send(publisher.build.state("cam2", Stamp(), State()))
    publisher.send(publisher.build.status("cam3", Stamp(), "stopped", detail="removed"))
    bare = connect(publisher.address, "")
    assert len(receive(publisher, bare, 4)) == 4
    publisher.close()
    publisher.close()
    received = [json.loads(receive_one(bare)) for _ in range(2)]
    assert [(one["stream"], one["source"], one["seq"], one["epoch"]) for one in received] == [
        ("cam1", "stopped", 1, 3),
        ("cam2", "stopped", 0, 0),
    ]
    assert (received[0]["captured"], received[0]["dropped"]) == (7, {"buffer": 2})
    assert not bare.poll(50)


def test_closing_does_not_wait_for_a_context_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    released, ended, end = threading.Event(), threading.Event(), zmq.Context.term

    def end_late(context: zmq.Context[zmq.Socket[bytes]]) -> None:
        released.wait()
        end(context)
        ended.set()

    publisher = publisher_at()
    with monkeypatch.context() as patched:
        patched.setattr(zmq.Context, "term", end_late)
        publisher.close()
    publisher_at(publisher.address).close()
    released.set()
    assert ended.wait(30)


def receive_one(bare: zmq.Socket[bytes]) -> bytes:
    assert bare.poll(30_000), "nothing arrived"
    return bare.recv_multipart()[1]


def example_command(name: str, folder: Path) -> tuple[str, ...]:
    """How an example is run here; skips where what it needs is not here."""
    if name == "subscribe.py":
        return sys.executable, str(EXAMPLES / name)
    if name == "subscribe.js":
        if (node := shutil.which("node")) is None or not (NODE_MODULES / "zeromq").exists():
            pytest.skip("node and its package zeromq are not here; `make test` installs them")
        return node, str(EXAMPLES / name)
    compiler = shutil.which("g++")
    if compiler is None or not all((INCLUDES / header).exists() for header in ("zmq.hpp", "nlohmann/json.hpp")):
        pytest.skip("apt-get install g++ cppzmq-dev nlohmann-json3-dev")
    program = str(folder / "subscribe")
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Werror", str(EXAMPLES / name), "-o", program, "-lzmq"], check=True
    )
    return (program,)


@pytest.mark.parametrize("name", ["subscribe.py", "subscribe.js", "subscribe.cpp"])
def test_the_bare_examples_read_the_stream(
    name: str, spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    program, *arguments = example_command(name, tmp_path)
    with publisher_at() as publisher:
        example = spawn(*arguments, publisher.address, program=program)
        first = read_line(publisher, example, lambda: publisher.send(publisher.build.event("cam1", STAMP, START)))
        assert first == "cam1 start wave 0.8125"
        publisher.send(publisher.build.event("cam1", STAMP, END))
        publisher.send(publisher.build.status("cam1", STAMP, "stopped"))
        output, _ = example.communicate(timeout=30)
        assert output.splitlines()[-1] == "cam1 end wave 0.9375"
        assert example.returncode == 0


STALLING = """
import sys
from streamer.labels.subscriber import Subscriber
with Subscriber(sys.argv[1], kinds=["state", "score"], timeout_s=60) as subscriber:
    next(subscriber)
    print("joined", flush=True)
    while not subscriber.missed:
        next(subscriber)
    print("missed", flush=True)
"""


def test_a_stopped_subscriber_neither_blocks_the_publisher_nor_fills_its_memory(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    with publisher_at() as publisher:
        publisher.send(publisher.build.state("cam1", Stamp(), State()))
        stalled = spawn("-c", STALLING, publisher.address)
        assert read_line(publisher, stalled) == "joined"
        stalled.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, stalled.pid, os.WSTOPPED | os.WNOWAIT)
        long = [("a label " * 500, 0.5)]
        before = resident_bytes()
        for _ in range(30_000):
            publisher.send(publisher.build.score("cam1", STAMP, long, WINDOW))
        assert resident_bytes() - before < 60e6  # 120 MB were sent
        stalled.send_signal(signal.SIGCONT)
        line = read_line(publisher, stalled, lambda: publisher.send(publisher.build.score("cam1", STAMP, [], WINDOW)))
        assert line == "missed"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


CROWD = """
import sys, zmq
with zmq.Context() as context:
    crowd = [context.socket(zmq.SUB) for _ in range(200)]
    for number, one in enumerate(crowd):
        one.subscribe("act/1/cam1/state/" if number < 199 else "act/1/")
        one.subscribe("act/1/cam1/score/")
        one.connect(sys.argv[1])
    for one in crowd:
        one.recv_multipart()
    print("joined", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_two_hundred_subscribers_that_stop_or_die_neither_block_the_publisher_nor_fill_its_memory(
    number: signal.Signals, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    with publisher_at() as publisher, Subscriber(publisher.address, timeout_s=30) as well:
        publisher.send(publisher.build.state("cam1", Stamp(), State()))
        crowd = spawn("-c", CROWD, publisher.address)
        assert read_line(publisher, crowd) == "joined"
        join(publisher, well)
        before = resident_bytes()
        long = [("a label " * 500, 0.5)]
        for count in range(1500):
            if count == 100:
                crowd.send_signal(number)
            publisher.send(publisher.build.score("cam1", STAMP, long, WINDOW))
            publisher.poll()
        assert resident_bytes() - before < 60e6  # 1.2 GB were sent
        for _ in moments():  # what was sent in such haste may be lost, not what is sent now
            publisher.send(publisher.build.gap("cam1", STAMP, 1, 2, "stalled"))
            if next(well).kind == "gap":
                break


def test_a_publisher_may_restart_at_once_on_the_same_port() -> None:
    with publisher_at(session="first") as first, Subscriber(first.address) as subscriber:
        join(first, subscriber)
        first.close()
        with publisher_at(first.address, session="second") as second:
            second.send(second.build.state("cam1", STAMP, State()))
            messages = collect(second, subscriber, lambda got: any(message.session == "second" for message in got))
    assert [message.kind for message in messages] == ["status", "state"]  # the first one's `stopped`
    assert subscriber.missed == 0


def test_a_flood_of_bytes_that_are_not_zeromq_does_no_harm() -> None:
    with publisher_at() as publisher, Subscriber(publisher.address) as subscriber:
        port = int(publisher.address.rpartition(":")[2])
        greeting = b"\xff" + b"\x00" * 8 + b"\x01\x7f\x03\x00"
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, greeting + b"x" * 4096):
            with socket.create_connection(("127.0.0.1", port)) as sender:
                sender.sendall(garbage)
        join(publisher, subscriber)


def test_who_subscribes_to_more_than_a_topic_is_disconnected(connect: Callable[..., zmq.Socket[bytes]]) -> None:
    with publisher_at() as publisher, Subscriber(publisher.address) as subscriber:
        greedy = connect(publisher.address, "act/1/")
        with greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            greedy.setsockopt_string(zmq.SUBSCRIBE, "x" * 100_000)
            for _ in moments():
                publisher.poll()
                if monitor.poll(0):
                    break
        greedy.disable_monitor()
        join(publisher, subscriber)


def test_subscriptions_are_counted_until_they_end_also_by_a_kill(
    connect: Callable[..., zmq.Socket[bytes]], spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    def count(publisher: Publisher, wanted: int) -> None:
        for _ in moments():
            publisher.poll()
            if publisher.subscriptions == wanted:
                break

    with publisher_at() as publisher:
        one, _ = connect(publisher.address, "act/1/"), connect(publisher.address, "act/1/")
        count(publisher, 2)
        process = spawn(str(EXAMPLES / "subscribe.py"), publisher.address)
        count(publisher, 3)
        process.kill()
        count(publisher, 2)
        one.close()
        count(publisher, 1)


def test_a_client_that_ends_what_it_never_began_does_not_turn_the_count_negative() -> None:
    # ZMTP 3.0 by hand, since no library would do that
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0")
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    subscribe, unsubscribe = (b"\x00\x07" + kind + b"act/1/" for kind in (b"\x01", b"\x00"))
    with publisher_at() as publisher:
        host, port = publisher.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as strange:
            strange.sendall(greeting + ready)
            said = b""
            while b"READY" not in said:
                said += strange.recv(1000)
            strange.sendall(3 * unsubscribe + subscribe)
            for _ in moments():
                publisher.poll()
                assert publisher.subscriptions >= 0
                if publisher.subscriptions == 1:
                    break
