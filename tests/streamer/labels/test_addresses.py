from __future__ import annotations

import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from streamer.config import Access
from streamer.errors import ConfigError
from streamer.labels.addresses import is_taken, mechanism, next_free, unreachable
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from tests.streamer.labels.peers import join, publisher_at


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://localhost:*"])
def test_the_address_tells_the_port_that_was_found(address: str) -> None:
    with publisher_at(address) as publisher:
        assert publisher.address.startswith("tcp://127.0.0.1:")
        assert int(publisher.address.rpartition(":")[2]) > 0


def test_ipc_works_and_takes_over_what_a_dead_program_left(tmp_path: Path) -> None:
    path = tmp_path / "labels.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with publisher_at(f"ipc://{path}") as publisher, Subscriber(publisher.address) as subscriber:
        join(publisher, subscriber)


def test_an_ipc_path_in_use_is_refused_and_stays_in_use(tmp_path: Path) -> None:
    with publisher_at(f"ipc://{tmp_path}/labels.sock") as publisher:
        with pytest.raises(ConfigError, match=r"labels\.sock: another program uses it"):
            publisher_at(publisher.address)
        with Subscriber(publisher.address) as subscriber:
            join(publisher, subscriber)


def test_an_ipc_path_of_a_file_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        publisher_at(f"ipc://{file}")
    assert file.read_text() == "precious"


@pytest.mark.parametrize(("access", "mode"), [("user", 0o600), ("group", 0o660), ("everyone", 0o666)])
def test_who_may_connect_to_an_ipc_path_is_told_by_its_mode(access: Access, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.sock"
    with Publisher(f"ipc://{path}", "net@1234", "stream", access=access):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_why_nobody_can_be_reached_is_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.sock"
    assert "there is no such socket" in unreachable(f"ipc://{path}")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert unreachable(f"ipc://{path}") == "nobody listens there"
    with publisher_at() as publisher:
        assert unreachable(publisher.address) == ""
    assert unreachable(publisher.address) == "nobody listens there"
    if os.geteuid():
        pytest.skip("only root can ask as another user")
    with publisher_at(f"ipc://{path}") as publisher:
        os.seteuid(65534)
        try:
            assert "permission denied: your user may not write" in unreachable(publisher.address)
        finally:
            os.seteuid(0)


def test_an_address_in_use_is_an_error_that_says_which_and_what_to_do() -> None:
    with (
        publisher_at() as publisher,
        pytest.raises(ConfigError, match=rf"{publisher.address}: another program uses it; .* publish\.address"),
    ):
        publisher_at(publisher.address)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("", "is not an address: use tcp://"),
        ("5557", "is not an address: use tcp://"),
        ("127.0.0.1:5557", "is not an address: use tcp://"),
        ("http://127.0.0.1:5557", "is not an address: use tcp://"),
        ("inproc://labels", "is not an address: use tcp://"),
        ("tcp://127.0.0.1", "is not an address: use tcp://"),
        ("tcp://127.0.0.1:abc", "is not an address: use tcp://"),
        ("tcp://127.0.0.1:5557\0", "is not an address: use tcp://"),
        ("ipc://", "is not an address: use tcp://"),
        ("tcp://127.0.0.1:99999", "a port is at most 65535"),
        ("tcp://192.0.2.1:5557", "this machine has no such address; set publish.address to one that it has"),
        ("tcp://no-such-interface:5557", "this machine has no such address; set publish.address to one that it has"),
        ("ipc:///no/such/folder/labels.sock", "No such file or directory"),
        ("ipc:///" + "long" * 50, "set publish.address to another address"),
    ],
)
def test_an_address_that_cannot_be_bound_is_an_error_that_helps(address: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        publisher_at(address)


def test_a_public_address_is_warned_about_and_a_local_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        publisher_at("tcp://127.0.0.1:*").close()
        assert not caplog.records
        publisher_at("tcp://0.0.0.0:*").close()
    (record,) = caplog.records
    assert "anyone who can reach this machine can use tcp://0.0.0.0:" in record.getMessage()


def test_a_port_at_which_somebody_listens_is_taken_and_the_next_free_one_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert is_taken(address)
        assert is_taken(f"tcp://{address}")
        free = next_free(f"tcp://{address}")
        assert free.startswith("tcp://127.0.0.1:")
        assert not is_taken(free)
    assert not is_taken(address)


@pytest.mark.parametrize(
    "address", ["", "9464", "tcp://*:5557", "127.0.0.1:0", "tcp://127.0.0.1:*", "a..b:5557", "ipc://x"]
)
def test_what_names_no_port_of_a_machine_is_not_taken(address: str) -> None:
    assert not is_taken(address)


def test_a_host_that_cannot_be_asked_for_is_told_and_no_traceback() -> None:
    assert unreachable("tcp://a..b:5557") == "there is no such host"


def test_who_does_not_greet_as_zeromq_does_has_no_mechanism() -> None:
    with publisher_at() as publisher, socket.create_server(("127.0.0.1", 0)) as other:
        assert mechanism(publisher.address) == "NULL"
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert mechanism(address) == ""  # it says nothing, for as long as it is waited for
