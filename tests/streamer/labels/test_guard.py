from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.labels import guard
from streamer.labels.outlet import MOST_OF_A_PEER
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from tools.peers.zmtp import GREETING, connect, frame, join

from .peers import STAMP, moments, publisher_at
from .peers import join as hear

SUBSCRIBE = b"\x01"


@pytest.fixture(params=["tcp", "ipc"])
def publisher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Publisher]:
    address = "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/labels"
    with publisher_at(address) as publisher:
        yield publisher


def say_until_cut_off(publisher: Publisher, peer: socket.socket, say: Callable[[int], bytes]) -> int:
    """Say more and more until the other end hangs up; how many bytes that took, at least."""
    peer.setblocking(False)
    said, left = 0, b""
    with suppress(ConnectionError):
        for number, _ in enumerate(moments()):
            publisher.poll()
            left = left or say(number)
            with suppress(BlockingIOError):
                sent = peer.send(left)
                said, left = said + sent, left[sent:]
            with suppress(BlockingIOError):
                while True:
                    if not peer.recv(65536):
                        return said
    return said


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("part", [b"", b"\x07" + b"x" * 400], ids=["empty", "long"])
def test_a_message_whose_parts_never_end_is_cut_off(part: bytes) -> None:
    with publisher_at() as publisher, join(publisher.address, b"SUB") as endless:
        before = resident_bytes()
        many = frame(part, more=True) * 1000
        say_until_cut_off(publisher, endless, lambda _: many)
        assert resident_bytes() - before < 50e6


def test_parts_that_come_slowly_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_WAITING", 3000)
    with publisher_at() as publisher, join(publisher.address, b"SUB") as slow:
        assert say_until_cut_off(publisher, slow, lambda _: frame(b"\x07" + b"x" * 10, more=True)) > 2900


def test_what_all_peers_left_unfinished_is_bounded_the_greediest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_WAITING_IN_ALL", 20_000)
    monkeypatch.setattr("streamer.labels.outlet._PENALTY_S", 0)
    with publisher_at() as publisher, ExitStack() as stack, Subscriber(publisher.address) as well:
        hear(publisher, well)
        crowd = [stack.enter_context(join(publisher.address, b"SUB")) for _ in range(10)]
        for number, peer in enumerate(crowd):
            peer.sendall(frame(b"\x07" + b"x" * 100, more=True) * 10 * (number + 1))
        say_until_cut_off(publisher, crowd[-1], lambda _: b"")
        assert len(publisher._guard.peers) > 1
        hear(publisher, well)
        assert well.missed == 0


@pytest.mark.parametrize(
    "prefix",
    [b"other", b"act/2/", b"act/1/CAM", b"act/1/" + b"a" * 65, b"act/1/a/event/more", b"\xff" * 20, b"act/1//"],
)
def test_who_subscribes_to_what_is_no_topic_is_cut_off(
    prefix: bytes, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    with Subscriber(publisher.address) as well, join(publisher.address, b"SUB") as odd:
        hear(publisher, well)
        say_until_cut_off(publisher, odd, lambda number: b"" if number else frame(SUBSCRIBE + prefix))
        hear(publisher, well)
        assert well.missed == 0
    assert "topics of labels begin with act/1/" in caplog.text


@pytest.mark.parametrize(
    "prefix", [b"", b"a", b"act/1/", b"act/1/cam", b"act/1/cam1/", b"act/1/cam1/ev", b"act/1/cam1/event/"]
)
def test_every_piece_of_a_topic_may_be_subscribed_to(prefix: bytes, publisher: Publisher) -> None:
    with join(publisher.address, b"SUB") as peer:
        peer.sendall(frame(SUBSCRIBE + prefix))
        for _ in moments():
            publisher.poll()
            if publisher.subscriptions == 1:
                return


def test_subscriptions_without_end_cost_the_connection_and_no_memory(publisher: Publisher) -> None:
    seeded = random.Random(1)

    def more(_number: int) -> bytes:
        names = ("".join(seeded.choices("abcdefghij", k=60)) for _ in range(100))
        return b"".join(frame(SUBSCRIBE + f"act/1/{name}/".encode()) for name in names)

    with join(publisher.address, b"SUB") as greedy:
        before = resident_bytes()
        said = say_until_cut_off(publisher, greedy, more)
        assert said < 3 * MOST_OF_A_PEER * 70
        assert resident_bytes() - before < 50e6
    for _ in moments():
        publisher.poll()
        if publisher.subscriptions == 0:
            return


def test_of_all_subscriptions_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.labels.outlet.MOST_SUBSCRIPTIONS", 100)
    monkeypatch.setattr("streamer.labels.outlet._PENALTY_S", 0)
    with publisher_at() as publisher, Subscriber(publisher.address) as well, ExitStack() as stack:
        hear(publisher, well)
        crowd = [stack.enter_context(join(publisher.address, b"SUB")) for _ in range(3)]
        for peer, count in zip(crowd, (20, 30, 70), strict=True):
            peer.sendall(b"".join(frame(SUBSCRIBE + b"act/1/cam%d/" % number) for number in range(count)))
        say_until_cut_off(publisher, crowd[-1], lambda _: b"")
        hear(publisher, well)
        assert well.missed == 0
        for _ in moments():
            publisher.poll()
            if publisher.subscriptions == 51:
                break


def test_of_too_many_connections_the_oldest_silent_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_PEERS", 5)
    with publisher_at() as publisher, Subscriber(publisher.address) as well, ExitStack() as stack:
        hear(publisher, well)
        silent = [stack.enter_context(connect(publisher.address)) for _ in range(6)]
        for peer in silent[:2]:
            assert peer.recv(100) != b""  # its greeting
            say_until_cut_off(publisher, peer, lambda _: b"")
        late = stack.enter_context(join(publisher.address, b"SUB"))
        late.sendall(frame(SUBSCRIBE + b"act/1/"))
        hear(publisher, well)
        assert well.missed == 0
        late.setblocking(False)
        told = b""
        for _ in moments():
            hear(publisher, well)
            with suppress(BlockingIOError):
                told += late.recv(65536)
            if b"act/1/" in told and len(publisher._guard.peers) <= 5:
                break


def test_over_a_unix_socket_the_newest_of_too_many_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guard, "MOST_PEERS", 3)
    with publisher_at(f"ipc://{tmp_path}/labels") as publisher, ExitStack() as stack:
        crowd = [stack.enter_context(connect(publisher.address)) for _ in range(4)]
        say_until_cut_off(publisher, crowd[-1], lambda _: b"")
        for _ in moments():
            if len(publisher._guard.peers) == 3:
                break


def test_a_connection_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HANDSHAKE_MS", 200)
    with publisher_at() as publisher:
        for begun in (b"", b"\xff", GREETING[:20], GREETING):
            with connect(publisher.address) as idle:
                idle.sendall(begun)
                say_until_cut_off(publisher, idle, lambda _: b"")
        for _ in moments():
            if not publisher._guard.peers:
                break


def test_the_descriptor_of_another_connection_is_never_cut(publisher: Publisher) -> None:
    left, right = socket.socketpair()
    with left, right, socket.create_server(("127.0.0.1", 0)) as server:
        camera = socket.create_connection(server.getsockname())
        with camera, server.accept()[0] as served:
            for one in (left, camera, served):
                publisher._guard.cut(one.fileno(), "a number that is somebody else's by now")
            publisher._guard.cut(-1, "gone")
            left.sendall(b"a")
            assert right.recv(1) == b"a"
            camera.sendall(b"b")
            assert served.recv(1) == b"b"


HANGING_UP = """
import socket, struct, sys, time
from contextlib import suppress
from streamer.labels.publisher import Publisher
from tools.peers.zmtp import frame, join

publisher = Publisher(sys.argv[1], "net@1234", "stream")
for _ in range(20):
    with suppress(ConnectionError), join(publisher.address, b"SUB") as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sendall((frame(b"\\x01act/1/a/") * 20 + b"\\x04\\x07\\x04PING\\x00\\x00") * 20)
        time.sleep(0.05)
    time.sleep(0.05)
    for _ in range(5):
        publisher.poll()
        time.sleep(0.005)
publisher.close()
"""


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_a_peer_that_wants_a_heartbeat_and_hangs_up_aborts_nothing(scheme: str, tmp_path: Path) -> None:
    address = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/labels"
    done = subprocess.run(
        [sys.executable, "-c", HANGING_UP, address], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


BYTES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=100).map(GREETING.__add__),
    st.lists(st.tuples(st.binary(max_size=90), st.booleans()), max_size=9).map(
        lambda frames: b"".join(frame(body, more) for body, more in frames)
    ),
)


@given(st.sampled_from([b"SUB", b"XSUB", b"DEALER", b"XYZ"]), BYTES, st.booleans())
@example(b"SUB", frame(b"\x01act/1/", more=True) + frame(b"\x01act/1/"), True)
@example(b"SUB", b"\x02" + b"\xff" * 8, True)
@example(b"SUB", b"\x04\x05\x04PING", True)
@settings(max_examples=25)
def test_whatever_is_said_to_it_a_publisher_goes_on(kind: bytes, said: bytes, greets: bool) -> None:
    with publisher_at() as publisher, Subscriber(publisher.address) as well:
        begin = partial(join, kind=kind) if greets else connect
        with suppress(ConnectionError), begin(publisher.address) as peer:
            peer.sendall(said)
            publisher.poll()
        hear(publisher, well)
        publisher.send(publisher.build.gap("cam1", STAMP, 1, 2, "stalled"))
        assert publisher.subscriptions >= 0
        assert well.missed == 0
