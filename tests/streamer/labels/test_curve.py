from __future__ import annotations

import logging
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from select import select

import pytest
import zmq
import zmq.auth
from zmq.utils import z85

from streamer.config import CurveConfig
from streamer.errors import ConfigError
from streamer.labels import curve, guard
from streamer.labels.curve import Curve, read_public, read_secret, write_keys
from streamer.labels.events import State
from streamer.labels.messages import Stamp
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber

from .key_rings import Keys
from .peers import ANY_PORT, STAMP, START, collect, join, moments


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "alice")


def publisher_with(keys: Keys, address: str = ANY_PORT) -> Publisher:
    return Publisher(address, "net@1234", "stream", curve=keys.config)


def poll_until(publisher: Publisher, condition: Callable[[], bool]) -> None:
    for _ in moments():
        publisher.poll()
        if condition():
            return


def test_keys_are_two_files_that_zeromq_reads_and_the_secret_one_is_private(tmp_path: Path) -> None:
    public_file, secret_file = write_keys(tmp_path / "alice")
    assert (public_file.name, secret_file.name) == ("alice.key", "alice.key_secret")
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    public, secret = zmq.auth.load_certificate(secret_file)
    assert zmq.auth.load_certificate(public_file) == (public, None)
    assert secret is not None
    assert zmq.curve_public(secret) == public
    assert secret.decode() not in public_file.read_text()
    assert (read_public(public_file), read_secret(secret_file)) == (z85.decode(public), z85.decode(secret))


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    _, secret_file = write_keys(tmp_path / "alice")
    before = secret_file.read_bytes()
    with pytest.raises(ConfigError, match=r"alice.key_secret exists already; choose another name"):
        write_keys(tmp_path / "alice")
    assert secret_file.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        write_keys(tmp_path / "no" / "alice")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("alice.key", "holds no secret key; give the file that ends in .key_secret"),
        ("shown.key_secret", r"others may read it \(mode 644\); run chmod 600 .*shown"),
        ("nobody.key_secret", "cannot be read: there is no such file"),
        ("folder", "cannot be read: Is a directory"),
        ("text", "is not a key file; `streamer keygen NAME` makes them"),
        ("binary", "is not a key file"),
        ("short", "is not a key file"),
        ("outside", "is not a key file"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_told(tmp_path: Path, file: str, message: str) -> None:
    write_keys(tmp_path / "alice")
    (tmp_path / "shown.key_secret").write_bytes((tmp_path / "alice.key_secret").read_bytes())
    (tmp_path / "shown.key_secret").chmod(0o644)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "binary").write_bytes(b'public-key = "\xff\xfe"\nsecret-key = "\x00"')
    (tmp_path / "short").write_text('public-key = "abcde"')
    (tmp_path / "outside").write_text(f'public-key = "{"#" * 40}"')  # more than 32 bits in 5 characters
    with pytest.raises(ConfigError, match=message) as caught:
        Subscriber("tcp://127.0.0.1:5557", curve=Curve(tmp_path / "alice.key", tmp_path / file))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        Publisher(
            ANY_PORT,
            "net@1",
            "stream",
            curve=CurveConfig(secret_key_file=tmp_path / file, authorized_keys_dir=tmp_path),
        )


def test_a_folder_of_keys_that_cannot_be_used_is_told_at_the_start(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    (keys.authorized / "broken.key").write_text("hello")
    with pytest.raises(ConfigError, match=r"authorized_keys_dir: .*broken.key: is not a key file"):
        publisher_with(keys)
    for file in keys.authorized.iterdir():
        file.unlink()
    publisher_with(keys).close()
    assert "authorized holds no keys, so nobody is let in" in caplog.text
    keys.authorized.rmdir()
    with pytest.raises(ConfigError, match=r"authorized_keys_dir: .*: cannot be read: No such file"):
        publisher_with(keys)


Intruder = Callable[[Keys, zmq.Socket[bytes]], None]


def in_plain_text(keys: Keys, bare: zmq.Socket[bytes]) -> None:
    pass


def with_an_unknown_key(keys: Keys, bare: zmq.Socket[bytes]) -> None:
    keys.curve("mallory").prepare(bare)


def with_another_servers_key(keys: Keys, bare: zmq.Socket[bytes]) -> None:
    keys.curve("alice", server="other").prepare(bare)


def with_a_password(keys: Keys, bare: zmq.Socket[bytes]) -> None:
    bare.plain_username, bare.plain_password = b"alice", b"secret"


@pytest.mark.parametrize("intrude", [in_plain_text, with_an_unknown_key, with_another_servers_key, with_a_password])
def test_an_intruder_gets_nothing_and_the_log_says_so_once(
    keys: Keys, intrude: Intruder, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_with(keys) as publisher, zmq.Context() as context, context.socket(zmq.SUB) as bare:
        publisher.send(publisher.build.state("cam1", STAMP, State()))
        intrude(keys, bare)
        bare.subscribe(b"")
        bare.connect(publisher.address)
        poll_until(publisher, lambda: "turned away" in caplog.text)
        with Subscriber(publisher.address, curve=keys.curve("alice")) as subscriber:
            join(publisher, subscriber)
            for _ in range(100):
                publisher.send(publisher.build.event("cam1", STAMP, START))
            collect(publisher, subscriber, lambda messages: len(messages) == 100)
        assert not bare.poll(100)
    assert caplog.text.count("turned away") == 1
    if intrude is with_an_unknown_key:
        public = z85.encode(read_public(keys.folder / "mallory.key")).decode()
        assert f"at 127.0.0.1: its public key {public} is not in {keys.authorized}" in caplog.text


def test_many_intruders_are_counted_in_one_line_a_minute(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = 60.0
    with publisher_with(keys) as publisher, monkeypatch.context() as patched:
        patched.setattr("time.monotonic", lambda: minute)
        publisher._guard._warn_at = minute
        for number in range(5):
            publisher._guard.warn(f"attempt {number}")
        minute += 61
        publisher._guard.warn("attempt 5")
    assert [record.getMessage() for record in caplog.records] == ["attempt 0", "attempt 5 (and 4 more like this)"]


def test_a_key_counts_as_soon_as_it_is_in_the_folder_and_no_longer_than_that(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(curve, "_RELOAD_S", 0)
    monkeypatch.setattr(guard, "HANDSHAKE_MS", 300)
    monkeypatch.setattr(guard, "WARN_S", 0)
    with publisher_with(keys) as publisher, Subscriber(publisher.address, curve=keys.curve("bob")) as bob:
        poll_until(publisher, lambda: "turned away" in caplog.text)
        (keys.authorized / "broken.key").write_text("hello")  # does not keep the others out
        keys.authorize("bob")
        join(publisher, bob)
        assert "a key that does not count" in caplog.text
        caplog.clear()
        (keys.authorized / "bob.key").unlink()
        with Subscriber(publisher.address, curve=keys.curve("bob")):
            poll_until(publisher, lambda: "turned away" in caplog.text)


def test_what_is_sent_cannot_be_read_on_the_wire(keys: Keys) -> None:
    with publisher_with(keys) as publisher, Wire(publisher.address) as wire:
        with Subscriber(wire.address, curve=keys.curve("alice")) as subscriber:
            join(publisher, subscriber)
        encrypted = bytes(wire.seen)
    with Publisher(ANY_PORT, "net@1234", "stream") as publisher, Wire(publisher.address) as wire:
        with Subscriber(wire.address) as subscriber:
            join(publisher, subscriber)
        plain = bytes(wire.seen)
    for word in (b"act/1/", b"net@1234", b'"kind"'):
        assert word in plain
        assert word not in encrypted


def test_ipc_is_encrypted_too(keys: Keys, tmp_path: Path) -> None:
    with (
        publisher_with(keys, f"ipc://{tmp_path}/labels.sock") as publisher,
        Subscriber(publisher.address, curve=keys.curve("alice")) as subscriber,
    ):
        join(publisher, subscriber)


def test_a_publisher_that_encrypts_may_restart(keys: Keys) -> None:
    first = publisher_with(keys)
    with Subscriber(first.address, curve=keys.curve("alice")) as subscriber:
        join(first, subscriber)
        first.close()
        first.close()
        with publisher_with(keys, first.address) as second:
            join(second, subscriber)


def test_a_public_address_is_warned_about_unless_it_encrypts(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        publisher_with(keys, "tcp://0.0.0.0:*").close()
        assert not caplog.records
        Publisher("tcp://0.0.0.0:*", "net@1234", "stream").close()
    (record,) = caplog.records
    assert "(publish.address); bind 127.0.0.1, or make keys with `streamer keygen`" in record.getMessage()


def test_garbage_on_an_encrypted_port_does_no_harm(keys: Keys) -> None:
    greeting = b"\xff" + b"\x00" * 8 + b"\x01\x7f\x03\x00CURVE" + b"\x00" * 47
    with (
        publisher_with(keys) as publisher,
        Subscriber(publisher.address, curve=keys.curve("alice")) as subscriber,
        ExitStack() as opened,
    ):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, greeting + b"\x04\xff" + b"x" * 4096, greeting):
            for _ in range(20):
                sender = opened.enter_context(socket.create_connection(peer(publisher.address)))
                sender.sendall(garbage)
        join(publisher, subscriber)


def test_a_late_subscriber_of_a_removed_stream_hears_nothing_of_it(keys: Keys) -> None:
    with publisher_with(keys) as publisher:
        for stream in ("cam1", "cam2"):
            publisher.send(publisher.build.state(stream, Stamp(), State()))
            publisher.send(publisher.build.status(stream, Stamp(), "stopped"))
        publisher.forget("cam1")
        with Subscriber(publisher.address, curve=keys.curve("alice")) as subscriber:
            messages = collect(publisher, subscriber, lambda messages: len(messages) == 2)
        assert {message.stream for message in messages} == {"cam2"}
        assert publisher.build.state("cam1", Stamp(), State()).seq == 1  # a reader would take 0 for a repeat


def peer(address: str) -> tuple[str, int]:
    return "127.0.0.1", int(address.rpartition(":")[2])


class Wire:
    """A TCP connection through this process, which sees all bytes that go over it."""

    def __init__(self, target: str) -> None:
        self.seen = bytearray()
        self._target = peer(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        """One connection, until either side ends it."""
        with self._listener.accept()[0] as client, socket.create_connection(self._target) as server:
            to = {client: server, server: client}
            while True:
                for source in select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    self.seen += data
                    to[source].sendall(data)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._listener.close()
