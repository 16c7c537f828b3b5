from __future__ import annotations

import pytest

from streamer.discovery.found import NetworkCamera
from streamer.errors import SourceError

pytest.importorskip("lxml", reason="pip install 'action-streamer[discover]'")

from streamer.discovery.probe import matches
from tests.streamer.discovery.device import probe_match

HERE = "http://192.0.2.7/onvif/device_service"


def test_a_match_gives_the_address_that_is_its_own_and_its_name() -> None:
    answer = probe_match(f"http://[fe80::1]/x http://10.0.0.1/x {HERE}", "urn:uuid:1")
    assert matches(answer, "192.0.2.7") == [NetworkCamera(HERE, "ACME Door Cam")]


def test_a_name_cannot_steer_a_terminal() -> None:
    (camera,) = matches(probe_match(HERE, "urn:uuid:1", name="%1B%5B2J%0Aevil" + "x" * 99), "192.0.2.7")
    assert camera.name.startswith(r"\u001b[2J\u000aevilx")
    assert len(camera.name) == 60


@pytest.mark.parametrize(
    "address", ["http://10.0.0.1/x", "http://192.0.2.7@10.0.0.1/", "ftp://192.0.2.7/", "", "http://[::1"]
)
def test_a_camera_that_names_another_host_is_told(address: str) -> None:
    with pytest.raises(SourceError, match=r"^192\.0\.2\.7: "):
        matches(probe_match(address, "urn:uuid:1"), "192.0.2.7")


@pytest.mark.parametrize("answer", [b"", b"\xff\xfe", b"<a", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;", b"<a>" * 20_000])
def test_what_is_no_answer_is_told(answer: bytes) -> None:
    with pytest.raises(SourceError, match="not as WS-Discovery does"):
        matches(answer, "192.0.2.7")


def test_an_answer_to_something_else_is_nothing() -> None:
    assert matches(b"<Envelope><Body><Hello/></Body></Envelope>", "192.0.2.7") == []
