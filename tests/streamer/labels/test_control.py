from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.commands.options import make_curve
from streamer.config import SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.labels.control import (
    COMMANDS,
    MAX_REQUEST_BYTES,
    MOST_OPENERS,
    Add,
    Control,
    Controlled,
    Report,
    act,
    answer,
    parse,
    source_config,
)
from streamer.labels.messages import Message
from streamer.labels.requests import ask, make_request
from streamer.sources import Source, open_source
from tools.peers.zmtp import connect, frame, join

from .key_rings import Keys

SWIPE = "pattern://swipe?size=64x48"


class Nobody:
    """Takes every command and remembers it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def report(self) -> Report:
        return Report("m@1", "s", None, False, [])

    def snapshot(self) -> list[Message]:
        return []

    def reset(self, name: str) -> int:
        self.done.append(("reset", name))
        return 1

    def open(self, config: SourceConfig) -> Source:
        return open_source(config)

    def add(self, config: SourceConfig, source: Source | None = None) -> str:
        assert source
        self.done.append(("add", config))
        return source.name

    def remove(self, name: str) -> None:
        self.done.append(("remove", name))

    def drain(self) -> None:
        self.done.append("drain")


def reply(request: Any, on: Controlled | None = None) -> dict[str, Any]:
    encoded = request if isinstance(request, bytes) else json.dumps(request).encode()
    on, done = on or Nobody(), Future[Any]()
    try:
        asked = parse(encoded)
        config = source_config(asked.source) if isinstance(asked, Add) else None
        done.set_result(act(asked, on, config, on.open(config) if config else None))
    except (ConfigError, SourceError) as error:
        done.set_exception(error)
    decoded: dict[str, Any] = json.loads(answer(done))
    assert decoded.keys() in ({"ok"}, {"error"})
    return decoded


def error_of(request: Any) -> str:
    nobody = Nobody()
    error: str = reply(request, nobody)["error"]
    assert nobody.done == []
    assert "\n" not in error
    return error


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"", "cannot read the request: Input data was truncated; send one JSON object"),
        (b"{", "the commands are status, snapshot, reset, add, remove, drain"),
        (b"status", "JSON is malformed"),
        (b"\xff\xfe{}", "cannot read the request"),
        (b"[" * 100_000, "cannot read the request"),
        (b'{"command": "status"} {"command": "drain"}', "trailing characters"),
        ([], "Expected `object`, got `array`"),
        ({}, "missing required field `command`"),
        ({"command": "explode"}, "Invalid value 'explode'"),
        ({"command": 1}, "Expected `str`"),
        ({"command": "reset"}, "missing required field `stream`"),
        ({"command": "reset", "stream": 5}, "Expected `str`, got `int`"),
        ({"command": "status", "stream": "a"}, "unknown field `stream`"),
        ({"command": "add", "source": None}, "Expected `int | str | object`"),
        ({"command": "add", "source": {}}, r"sources.0.uri (from the request): field required"),
        ({"command": "add", "source": {"uri": "0", "nmae": "a"}}, "did you mean sources.0.name?"),
        ({"command": "add", "source": "a" * 2049}, "uri: is too long; 2048 characters are allowed"),
        ({"command": "add", "source": {"uri": "0", "a" * 99: 1}}, "aaaa: is too long"),
        ({"command": "add", "source": {f"{n:x}": 1 for n in range(33)}}, "has 33 fields; 32 are allowed"),
        ({"command": "add", "source": int("9" * 300)}, "uri: is too large; 1000000000 is allowed"),
        ({"command": "add", "source": {"uri": "0", "width": 10**30}}, "width: is too large"),
        ({"command": "reset", "stream": ["x"] * 9}, "Expected `str`, got `array`"),
        ({"command": "add", "source": {"uri": "0", "name": "Door 1"}}, "sources.0.name (from the request): string"),
        ({"command": "add", "source": {"uri": "rtsp://u:secret@h/1", "name": "A"}}, "sources.0.name"),
    ],
)
def test_a_request_that_cannot_be_is_answered_with_what_is_wrong(request_: Any, message: str) -> None:
    error = error_of(request_)
    assert message in error
    assert "secret" not in error


def test_a_source_that_cannot_be_is_answered_without_its_password() -> None:
    error = reply({"command": "add", "source": "rtp://me:secret@camera/1"})["error"]
    assert "rtp://***@camera/1: no source is called rtp://; did you mean rtsp://?" in error
    for uri in (
        "rtsp://me:secret@camera\u2100/1",
        "pattern://me:secret@\u2100/1",
        "pattern://[x",
    ):  # urlsplit repeats what it dislikes
        error = reply({"command": "add", "source": uri})["error"]
        assert "malformed" in error
        assert "secret" not in error


def test_every_command_does_its_work() -> None:
    nobody = Nobody()
    assert reply({"command": "status"}, nobody)["ok"]["model"] == "m@1"
    assert reply({"command": "snapshot"}, nobody) == {"ok": []}
    assert reply({"command": "reset", "stream": "a"}, nobody) == {"ok": {"stream": "a", "epoch": 1}}
    assert reply({"command": "add", "source": SWIPE}, nobody) == {"ok": {"stream": "swipe"}}
    assert reply({"command": "add", "source": {"uri": SWIPE, "name": "b"}}, nobody) == {"ok": {"stream": "b"}}
    assert reply({"command": "remove", "stream": "a"}, nobody) == {"ok": {"stream": "a"}}
    assert reply({"command": "drain"}, nobody) == {"ok": {}}
    sources = [SourceConfig(uri=SWIPE), SourceConfig(uri=SWIPE, name="b")]
    assert nobody.done == [("reset", "a"), *(("add", one) for one in sources), ("remove", "a"), "drain"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
COMMAND = st.fixed_dictionaries(
    {"command": st.sampled_from([*COMMANDS, "x"])}, optional={"stream": JSON, "source": JSON, "other": JSON}
)
SCHEME = st.sampled_from(["", "rtsp://", "http://", "file:", "/dev/", "v4l2:", "pattern://", "pattern://swipe?", "/"])
URI = st.builds(lambda scheme, text: scheme + text, SCHEME, st.text() | st.text("a\0/:@[]%?&=", min_size=1, max_size=9))


@given(
    st.binary()
    | st.text().map(str.encode)
    | JSON
    | COMMAND
    | st.fixed_dictionaries({"command": st.just("add"), "source": URI})
)
@example({"command": "add", "source": "pattern://[x"})
@example({"command": "add", "source": "a" * 5000})
@settings(max_examples=60)
def test_whatever_is_asked_gets_one_answer(request_: Any) -> None:
    reply(request_)


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("status",), {"command": "status"}),
        (("reset", "door"), {"command": "reset", "stream": "door"}),
        (("remove", "door"), {"command": "remove", "stream": "door"}),
        (("add", "0"), {"command": "add", "source": {"uri": "0"}}),
        (("add", "0", "door"), {"command": "add", "source": {"uri": "0", "name": "door"}}),
    ],
)
def test_a_command_line_is_a_request(arguments: tuple[str, ...], request_: dict[str, Any]) -> None:
    assert make_request(*arguments) == request_
    assert "ok" in reply(request_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explode",), "there is no such command; known are status, snapshot, reset"),
        (("reset",), "name a stream, such as `streamer ctl reset STREAM`"),
        (("add",), "name a source, such as `streamer ctl add SOURCE`"),
        (("drain", "door"), "takes nothing more, got 'door'"),
        (("reset", "door", "window"), "--name is for add only"),
    ],
)
def test_a_command_line_that_is_no_request_is_told(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_request(*arguments)


def test_keys_on_the_command_line_come_in_pairs() -> None:
    assert make_curve(None, None) is None
    for pair in ((Path("a.key"), None), (None, Path("a.key_secret"))):
        with pytest.raises(ConfigError, match="--server-key and --key belong together"):
            make_curve(*pair)


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
