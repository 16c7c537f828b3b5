"""Users and passwords of network cameras: as they are in keys, escaped in addresses, and never a piece of a host."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import open_source
from streamer.sources.address import with_credentials
from tools.cameras import HttpCamera, RtspServer

HARD = "my@pass/wo:rd#1?&% ü'\"+\\"
"""A password with everything that an address gives a meaning to."""


def frames(capture: str = "thread", **keys: object) -> int:
    source = open_source(SourceConfig.model_validate({"read_s": 10, "capture": capture, **keys}))
    try:
        return sum(1 for _ in islice(source.frames(0, threading.Event()), 2))
    finally:
        source.close()


@pytest.mark.parametrize("capture", ["thread", "process"])
def test_a_camera_gets_the_password_of_the_keys_as_it_is(
    capture: str, rtsp_server: Callable[..., RtspServer], tmp_path: Path
) -> None:
    server = rtsp_server("--user", "ad@min", "--password", HARD)
    assert frames(capture, uri=server.url(), user="ad@min", password=HARD) == 2
    (tmp_path / "secret").write_text(HARD + "\n")
    assert frames(capture, uri=server.url(), user="ad@min", password_file=tmp_path / "secret") == 2


def test_a_camera_with_basic_authentication_gets_it_too(http_camera: Callable[..., HttpCamera]) -> None:
    camera = http_camera()
    camera.password = HARD + "x" * 400
    assert frames(uri=camera.url(), user="viewer", password=camera.password) == 2


def test_a_password_that_rtsp_would_cut_off_is_refused(rtsp_server: Callable[..., RtspServer]) -> None:
    longest = "x" * (127 - len("user:"))
    server = rtsp_server("--user", "user", "--password", longest)
    assert frames(uri=server.url(), user="user", password=longest) == 2
    for password in (longest + "x", "@" * 50):
        with pytest.raises(SourceError, match="too long for RTSP"):
            open_source(SourceConfig.model_validate({"uri": server.url(), "user": "user", "password": password}))


def test_the_password_is_read_anew_at_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    config = SourceConfig.model_validate({"uri": "rtsp://cam/a", "user": "u", "password_file": str(file)})
    for text, address in (("one\n", "rtsp://u:one@cam/a"), ("t@o", "rtsp://u:t%40o@cam/a")):
        file.write_text(text)
        assert with_credentials(config) == address
    file.unlink()
    with pytest.raises(SourceError, match="secret cannot be read: No such file") as caught:
        with_credentials(config)
    assert caught.value.retry == "slow"


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfe"])
def test_a_password_file_that_holds_no_password_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SourceError, match=r"password_file .*secret (must hold|cannot be read)"):
        open_source(
            SourceConfig.model_validate({"uri": "rtsp://cam/a", "user": "u", "password_file": tmp_path / "secret"})
        )


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://admin:my@pass/word@{host}/digest",
        "rtsp://admin:my@pass@{host}/digest",
        "rtsp://admin:my/pass@{host}/digest",
        "rtsp://admin:my?pass@{host}/digest",
        "rtsp://admin:my#pass@{host}/digest",
        "rtsp://admin:my\\pass@{host}/digest",
        "rtsp://admin:my pass@{host}/digest",
        "rtsp://admin:my\npass@{host}/digest",
        "http://{host}/a?user=a@b",
        "http://{host}/a@pass",
        "rtsp://admin:pass",
        "rtsp://admin:pass%00word@{host}/a",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused_before_anybody_is_asked(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*asked: object) -> None:
        raise AssertionError(f"asked for {asked}")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(SourceError, match=r"write @ as %40|NUL") as caught:
        open_source(SourceConfig(uri=uri.format(host="127.0.0.1:1")))
    assert caught.value.retry == "never"
    assert not re.search("pass(?!word)|admin|my", str(caught.value).partition(":")[0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"uri": "rtsp://a:b@cam/a", "user": "u", "password": "p"}, "a user in the address and one as a key"),
        ({"uri": "rtsp://cam/a", "user": "a:b", "password": "p"}, "no colon"),
        ({"uri": "rtsp://cam/a", "user": "u", "password": "p\0p"}, "NUL"),
        ({"uri": "0", "user": "u", "password": "p"}, "for network cameras"),
        ({"uri": "pattern://swipe", "user": "u", "password": "p"}, "for network cameras"),
    ],
)
def test_keys_that_make_no_sense_are_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(SourceConfig.model_validate(keys))
