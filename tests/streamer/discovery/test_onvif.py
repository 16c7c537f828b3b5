from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamer.discovery.found import Mode, Stream
from streamer.errors import SourceError

pytest.importorskip("onvif", reason="pip install 'action-streamer[discover]'")

from streamer.discovery import onvif
from tests.streamer.discovery.device import PASSWORD, PROFILES, USER, OnvifDevice, envelope, fault

Devices = Callable[..., OnvifDevice]
RIGHT = (USER, PASSWORD)
NO_TIME = envelope(
    "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>Manual</tt:DateTimeType><tt:UTCDateTime>"
    "<tt:Time><tt:Hour>25</tt:Hour><tt:Minute>0</tt:Minute><tt:Second>0</tt:Second></tt:Time><tt:Date><tt:Year>0</tt:Year>"
    "<tt:Month>13</tt:Month><tt:Day>1</tt:Day></tt:Date></tt:UTCDateTime></tds:SystemDateAndTime>"
    "</tds:GetSystemDateAndTimeResponse>"
)
STREAMS = [
    Stream(f"rtsp://127.0.0.1:8554/{name}?channel=1&subtype=0", name, Mode("H264", width, height, 25.0))
    for name, (width, height) in PROFILES.items()
]


def ask(device: OnvifDevice, login: onvif.Login | None = RIGHT) -> list[Stream] | SourceError:
    (answer,) = onvif.ask_all([device.url], login)
    return answer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ahead": timedelta(hours=3)},
        {"ahead": timedelta(days=-9000)},
        {"services": False},
        {"login": "digest"},
        {"login": "digest", "other": {"GetSystemDateAndTime": lambda: fault("Sender", "ter:NotAuthorized", "no")}},
        {"other": {"GetSystemDateAndTime": lambda: (200, NO_TIME)}},
    ],
    ids=[
        "plain",
        "clock ahead",
        "clock of 2002",
        "before GetServices",
        "HTTP digest",
        "a clock that is not told",
        "no time at all",
    ],
)
def test_a_camera_tells_its_streams_to_its_user(device: Devices, options: dict[str, Any]) -> None:
    asked = device(**options)
    assert ask(asked) == STREAMS
    assert not any(PASSWORD in body for body in asked.bodies)


def test_a_camera_that_wants_no_user_is_asked_without_one(device: Devices) -> None:
    asked = device(login="")
    assert ask(asked, None) == STREAMS
    assert not any("UsernameToken" in body for body in asked.bodies)


@pytest.mark.parametrize("login", ["wsse", "digest"])
def test_a_wrong_password_and_none_are_told_apart(device: Devices, login: str) -> None:
    asked = device(login=login)
    assert (
        str(ask(asked, (USER, "wrong")))
        == f"{asked.url}: refuses the user or the password; check --user and the password"
    )
    assert str(ask(asked, None)) == f"{asked.url}: wants a user; give --user and --password-file"


def test_a_user_and_a_password_in_a_stream_address_are_taken_out(device: Devices) -> None:
    answer = ask(device(stream="rtsp://admin:echo@127.0.0.1/{profile}"))
    assert isinstance(answer, list)
    assert [stream.uri for stream in answer] == [f"rtsp://127.0.0.1/{name}" for name in PROFILES]


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "%s">%s]><x>&l;</x>""" % (
    b"a" * 100,
    b"".join(b'<!ENTITY %c "%s">' % (98 + step, b"&%c;" % (97 + step) * 50) for step in range(11)),
)
FILE = (
    b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>"""
    + envelope(
        "<tds:GetServicesResponse><tds:Service><tds:Namespace>&a;</tds:Namespace></tds:Service></tds:GetServicesResponse>"
    ).partition(b"?>")[2]
)
_ONE = '<trt:Profiles token="a"/>'
MANY = envelope(f"<trt:GetProfilesResponse>{_ONE * 5_000}</trt:GetProfilesResponse>")


@pytest.mark.parametrize(
    ("request_", "answer", "told"),
    [
        ("GetServices", (200, b"x" * 2_000_000), "answers more than 1024 KiB"),
        ("GetServices", (200, b"no XML at all"), "not as ONVIF does"),
        ("GetServices", (200, b""), "not as ONVIF does"),
        ("GetServices", (200, BOMB), "not as ONVIF does"),
        ("GetServices", (200, FILE), "not as ONVIF does"),
        ("GetServices", (200, b"<a>" * 300_000), "not as ONVIF does"),
        ("GetServices", (307, b"http://127.0.0.1:1/"), "sends us elsewhere"),
        ("GetProfiles", (500, b"<html>"), "refuses GetProfiles"),
        ("GetProfiles", fault("Receiver", "ter:Action", "\x1b[2J" * 100), "refuses GetProfiles: [^\x1b]+$"),
        ("GetProfiles", fault("Receiver", "ter:Action", "\u202eno" * 200), r"refuses GetProfiles: (\\u202eno)+"),
    ],
    ids=["huge", "garbage", "empty", "entities", "a file", "deep", "redirect", "page", "escape", "reason"],
)
def test_hostile_answers_are_one_sentence(device: Devices, request_: str, answer: tuple[int, bytes], told: str) -> None:
    asked = device(other={request_: lambda: answer, "GetCapabilities": lambda: answer})
    error = ask(asked)
    assert isinstance(error, SourceError)
    assert str(error).startswith(f"http://127.0.0.1:{asked.server_port}/onvif/")
    assert re.search(told, str(error))
    assert len(str(error)) < 500


def test_a_camera_that_lists_profiles_without_end_is_asked_for_a_few(device: Devices) -> None:
    asked = device(other={"GetProfiles": lambda: (200, MANY)})
    ask(asked)
    assert asked.asked.count("GetStreamUri") <= onvif.MOST_PROFILES


def test_a_device_without_a_media_service_is_told(device: Devices) -> None:
    none = envelope("<tds:GetCapabilitiesResponse><tds:Capabilities/></tds:GetCapabilitiesResponse>")
    asked = device(services=False, other={"GetCapabilities": lambda: (200, none)})
    assert "has no media service" in str(ask(asked))


def test_a_camera_that_never_answers_holds_nobody(device: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onvif, "ANSWER_S", 1.0)
    silence = threading.Event()

    def never() -> tuple[int, bytes]:
        silence.wait(60)
        return 200, b""

    silent, good = device(other={"GetProfiles": never}), device()
    begin = time.monotonic()
    failed, found = onvif.ask_all([silent.url, good.url], RIGHT)
    silence.set()
    assert "no answer within 1 s" in str(failed)
    assert found == STREAMS
    assert time.monotonic() - begin < 30


def test_a_camera_that_is_not_there_is_told() -> None:
    refused, unknown = onvif.ask_all(["http://127.0.0.1:1/onvif/device_service", "http://no.invalid/"], RIGHT)
    assert "connection refused" in str(refused)
    assert "check the host name" in str(unknown)


@pytest.mark.parametrize(
    "place", ["http://192.0.2.9/onvif/media", "http://127.0.0.1:1/onvif/media", "ftp://127.0.0.1/"]
)
def test_a_digest_of_the_password_goes_to_no_other_address(device: Devices, place: str) -> None:
    asked = device(media=place)
    assert "sends us to" in str(ask(asked))
    assert "GetProfiles" not in asked.asked


@pytest.mark.parametrize(
    "stream",
    [
        "rtsp://192.0.2.9/{profile}",
        "file:///etc/passwd",
        "rtsp://127.0.0.1@192.0.2.9/",
        "rtsp://127.0.0.1/ a",
        "rtsp://[::1",
        "",
        "-",
    ],
)
def test_a_stream_that_is_elsewhere_is_left_out_with_a_warning(
    device: Devices, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(device(stream=stream)) == []
    assert caplog.text.count("is left out") == len(PROFILES)


def test_what_all_cameras_share_is_read_before_the_time_of_any_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, Any] = {}
    at_once = []

    async def ask_nothing(_url: str, _login: onvif.Login | None) -> list[Stream]:
        at_once.append(len(read))
        return []

    monkeypatch.setattr("onvif.client._DOCUMENT_CACHE", read)
    monkeypatch.setattr(onvif, "_ask", ask_nothing)
    onvif.ask_all(["http://127.0.0.1:1/", "http://127.0.0.1:2/"], RIGHT)
    assert at_once == [2, 2]
