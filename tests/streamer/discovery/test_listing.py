from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streamer.config import Config
from streamer.discovery.found import Mode, NetworkCamera, Stream, Webcam
from streamer.discovery.listing import listing
from streamer.settings import load_settings

URL = "http://192.0.2.7/onvif/device_service"


def read(*lines: str) -> Config:
    return Config.model_validate(yaml.safe_load("\n".join(lines)))


def streams(*sizes: tuple[int, int], host: str = "rtsp://192.0.2.7") -> tuple[Stream, ...]:
    return tuple(Stream(f"{host}/{height}", f"p{height}", Mode("H264", width, height, 25)) for width, height in sizes)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        (((1920, 1080), (640, 360), (320, 180)), "360"),
        (((704, 576), (640, 360)), "360"),
        (((320, 180), (352, 288)), "288"),
        (((0, 0),), "0"),
    ],
)
def test_the_smallest_stream_that_is_large_enough_is_the_source(
    sizes: tuple[tuple[int, int], ...], chosen: str
) -> None:
    (source,) = read(*listing([], [NetworkCamera(URL, "", streams(*sizes))])).sources
    assert source.uri == f"rtsp://192.0.2.7/{chosen}"


def test_a_listing_is_a_configuration_with_names_of_its_own(tmp_path: Path) -> None:
    modes = (Mode("YUYV", 640, 480, 30), Mode("MJPG", 1920, 1080, 30), Mode("MJPG", 1280, 720, 60))
    cameras = [NetworkCamera(URL, "Door", streams((640, 360))), NetworkCamera(URL, "door!", streams((640, 360)))]
    lines = list(listing([Webcam(Path("/dev/video0"), "Door", modes)], cameras, "admin", tmp_path / "secret: #1"))
    config = read(*lines)
    assert [source.name for source in config.sources] == ["door", "door-2", "door-3"]
    assert (config.sources[0].uri, config.sources[0].width, config.sources[0].height) == ("/dev/video0", 640, 480)
    assert config.sources[1].password_file == tmp_path / "secret: #1"
    assert "  #   MJPG: 1920x1080 at 30, 1280x720 at 60" in lines


def test_a_password_in_the_environment_goes_to_the_source_that_the_listing_names(tmp_path: Path) -> None:
    cameras = [NetworkCamera(URL, "a", streams((640, 360))), NetworkCamera(URL, "b", streams((640, 360)))]
    path = tmp_path / "found.yaml"
    path.write_text("\n".join(lines := list(listing([], cameras, "no", None))), encoding="utf-8")
    named = [line.split()[3].strip(",") for line in lines if "STREAMER_SOURCES" in line]
    config = load_settings(path, dict.fromkeys(named, "x")).config
    assert [(source.user, source.password is not None) for source in config.sources] == [("no", True)] * 2


@pytest.mark.parametrize(
    "path", ["user=admin_password=tlJwpbo6&channel=1", "live?pwd=tlJwpbo6", "pass/tlJwpbo6", "a;token=tlJwpbo6"]
)
def test_an_address_with_a_password_in_it_is_no_source_and_not_shown(path: str) -> None:
    stream = Stream(f"rtsp://192.0.2.7/{path}", "main", Mode())
    lines = list(listing([], [NetworkCamera(URL, "", (stream,))]))
    assert "tlJwpbo6" not in "\n".join(lines)
    assert "may hold a password" in lines[-1]
    assert read(*lines).sources == ()


def test_what_a_camera_says_stays_a_text() -> None:
    odd = Stream("rtsp://192.0.2.7/a: b # {c}", "x", Mode())
    (source,) = read(*listing([], [NetworkCamera(URL, "'\"*&!", (odd,))])).sources
    assert source.uri == "rtsp://192.0.2.7/a: b # {c}"
