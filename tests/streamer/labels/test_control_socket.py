"""The control socket, as peers see it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.config import SourceConfig
from streamer.errors import ConfigError
from streamer.labels.control import (
    MAX_REQUEST_BYTES,
    MOST_OPENERS,
    Control,
)
from streamer.labels.requests import ask
from streamer.sources import Source
from tools.peers.zmtp import connect, frame, join

from .key_rings import Keys
from .test_commands import SWIPE, Nobody


class Served:
    """A control socket that is polled in a thread, as a pipeline would."""

    def __init__(self, address: str = "auto", **options: Any) -> None:
        self.control = Control(address, **options)
        self.address = self.control.address
        self.nobody = Nobody()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._stop.wait(0.005):
            self.control.poll(self.nobody)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self.control.close()


@pytest.fixture
def dealer() -> Iterator[Callable[[str], zmq.Socket[bytes]]]:
    """Bare sockets, as a program in any language would have them."""
    with zmq.Context() as context:
        opened = []

        def connect(address: str) -> zmq.Socket[bytes]:
            opened.append(context.socket(zmq.DEALER))
            opened[-1].linger = 0
            opened[-1].connect(address)
            return opened[-1]

        yield connect
        for one in opened:
            one.close()


def test_any_binding_can_ask_also_many_things_at_once(dealer: Callable[[str], zmq.Socket[bytes]]) -> None:
    with Served() as served:
        assert ask(served.address, {"command": "status"})["model"] == "m@1"
        with pytest.raises(ConfigError, match="the commands are status"):
            ask(served.address, {"command": "stop"})
        bare = dealer(served.address)
        for number in range(50):
            bare.send(json.dumps({"command": "reset", "stream": str(number)}).encode())
        for number in range(50):
            assert bare.poll(30_000)
            assert json.loads(bare.recv()) == {"ok": {"stream": str(number), "epoch": 1}}


def test_a_request_of_ten_megabytes_is_cut_off_and_others_are_served(
    dealer: Callable[[str], zmq.Socket[bytes]],
) -> None:
    with Served() as served:
        greedy = dealer(served.address)
        with greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            greedy.send(b'{"command": "reset", "stream": "' + b"x" * 10_000_000 + b'"}')
            assert monitor.poll(30_000)
            greedy.disable_monitor()
        long = dealer(served.address)
        long.send(b" " * (MAX_REQUEST_BYTES - 30) + b'{"command": "drain"}')
        assert long.poll(30_000)
        assert json.loads(long.recv()) == {"ok": {}}
        assert served.nobody.done == ["drain"]


def test_garbage_and_odd_envelopes_do_no_harm(dealer: Callable[[str], zmq.Socket[bytes]]) -> None:
    with Served() as served:
        with connect(served.address) as sender:
            sender.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\x00" * 4096)
        bare = dealer(served.address)
        for frames in ([b""], [b"", b""], [b"a"] * 15, [b"", b'{"command": "drain"}', b""]):
            bare.send_multipart(frames)
            assert bare.poll(30_000)
            *envelope, text = bare.recv_multipart()
            assert envelope == frames[:-1]
            assert "error" in json.loads(text)
        assert served.nobody.done == []


GREETING_2 = b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\x00\x00"
"""Of ZMTP 2.0: the signature, the revision, DEALER, and no identity."""


def zmtp_1(*frames: bytes) -> bytes:
    """Frames of ZMTP 1.0, which has no greeting."""
    last = len(frames) - 1
    return b"".join(bytes([len(frame) + 1, number < last]) + frame for number, frame in enumerate(frames))


@pytest.mark.parametrize("verb", ["POST", "GET", "PUT", "OPTIONS", "M"])
def test_an_http_request_is_no_request_whatever_its_length(verb: str) -> None:
    with Served() as served:
        for shift in range(2):  # the sled of one-byte frames ends where a frame begins, for one of both
            body = b"\x01" * (400 + shift) + zmtp_1(b"", b'{"command": "drain"}')
            head = f"{verb} / HTTP/1.1\r\nHost: 127.0.0.1:5558\r\nContent-Length: {len(body)}\r\n\r\n"
            assert_cut_off(served.address, head.encode() + body)
        assert_cut_off(served.address, zmtp_1(b"", b"", b'{"command": "drain"}'))
        assert_cut_off(served.address, GREETING_2 + b"\x01\x00\x00\x14" + b'{"command": "drain"}')
        assert ask(served.address, {"command": "status"})["model"] == "m@1"
        assert served.nobody.done == []


def assert_cut_off(address: str, said: bytes) -> None:
    """Say this, and be disconnected."""
    with connect(address) as peer, suppress(ConnectionError):
        peer.sendall(said)
        while peer.recv(1000):
            pass


def test_a_request_of_many_parts_is_thrown_away_and_its_sender_disconnected() -> None:
    with Served() as served:
        for parts in (17, 200_000):
            with join(served.address, b"DEALER") as peer, suppress(ConnectionError):
                peer.sendall(frame(b"", more=True) * parts + frame(b'{"command": "drain"}'))
                while peer.recv(1000):
                    pass
        assert ask(served.address, {"command": "status"}, timeout_s=30)["model"] == "m@1"
        assert served.nobody.done == []


FRAMES = st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=20)


@given(st.sampled_from([b"DEALER", b"REQ", b"SUB", b"XYZ"]), FRAMES, st.binary(max_size=50))
@example(b"DEALER", [(b"", True), (b'{"command": "drain"', False)], b"\x06" + b"\xff" * 8)
@example(b"DEALER", [(b"a", True)] * 20, b"\x04\x07\x04PING\x00\x00")
@settings(max_examples=20)
def test_whatever_is_said_to_it_a_control_socket_goes_on(
    kind: bytes, frames: list[tuple[bytes, bool]], rest: bytes
) -> None:
    with Served() as served:
        with suppress(ConnectionError), join(served.address, kind) as peer:
            peer.sendall(b"".join(frame(body, more) for body, more in frames) + rest)
        assert ask(served.address, {"command": "status"}, timeout_s=30)["model"] == "m@1"
        assert served.nobody.done == []


def test_a_source_that_hangs_while_it_is_opened_keeps_nobody_waiting_and_is_not_one_of_many(
    dealer: Callable[[str], zmq.Socket[bytes]],
) -> None:
    go_on = threading.Event()

    class Hanging(Nobody):
        def open(self, config: SourceConfig) -> Source:
            assert go_on.wait(30)
            return super().open(config)

    with Served() as served:
        served.nobody = Hanging()
        bare = dealer(served.address)
        for number in range(MOST_OPENERS + 1):
            source = {"uri": SWIPE, "name": str(number)}
            bare.send(json.dumps({"command": "add", "source": source}).encode())
        assert bare.poll(30_000)
        assert "4 sources are being opened already" in json.loads(bare.recv())["error"]
        assert ask(served.address, {"command": "status"}, timeout_s=30)["model"] == "m@1"
        assert served.nobody.done == []
        go_on.set()
        assert {json.loads(bare.recv())["ok"]["stream"] for _ in range(MOST_OPENERS)} == {"0", "1", "2", "3"}


def test_a_request_that_fails_unexpectedly_is_answered_and_the_next_one_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Nobody):
        def reset(self, name: str) -> int:
            raise ZeroDivisionError("rtsp://me:secret@camera")

    with Served() as served:
        served.nobody = Broken()
        with pytest.raises(ConfigError, match="this failed, please report it: ZeroDivisionError") as caught:
            ask(served.address, {"command": "reset", "stream": "a"}, timeout_s=30)
        assert "secret" not in str(caught.value)
        assert ask(served.address, {"command": "status"}, timeout_s=30)["model"] == "m@1"


def test_who_asks_and_never_reads_does_not_keep_others_from_being_served(
    dealer: Callable[[str], zmq.Socket[bytes]],
) -> None:
    with Served() as served:
        deaf = dealer(served.address)
        deaf.rcvhwm = 1
        for _ in range(2000):
            deaf.send(b"{}")
        assert ask(served.address, {"command": "status"}, timeout_s=30)["model"] == "m@1"


def test_with_keys_only_those_who_have_one_are_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(tmp_path, "alice")
    with Served("tcp://127.0.0.1:*", curve=keys.config) as served:
        assert ask(served.address, {"command": "drain"}, keys.curve("alice"), timeout_s=30) == {}
        for curve in (None, keys.curve("mallory"), keys.curve("alice", server="other")):
            with pytest.raises(
                ConfigError, match=r"no answer from .* within 0.5 s: .* are --server-key and --key right"
            ):
                ask(served.address, {"command": "drain"}, curve, timeout_s=0.5)
        assert served.nobody.done == ["drain"]
    assert caplog.text.count("turned away") == 1


def test_an_address_in_use_names_the_key_to_change() -> None:
    with (
        Control("auto") as control,
        pytest.raises(ConfigError, match="another program uses it; stop that one or choose another path"),
    ):
        Control(control.address)


def test_what_is_not_a_control_socket_is_told() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        answering = threading.Thread(target=lambda: other.send(other.recv() and b"hello"))
        answering.start()
        with pytest.raises(ConfigError, match="is not a control socket"):
            ask(f"tcp://127.0.0.1:{port}", {"command": "status"}, timeout_s=30)
        answering.join()
