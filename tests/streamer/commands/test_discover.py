from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamer.commands import app
from streamer.config import Config
from streamer.discovery.found import Webcam
from streamer.errors import ConfigError, SourceError, StreamerError
from streamer.reading import read_yaml
from tests.streamer.commands.test_cli import command, environment

pytest.importorskip("onvif", reason="pip install 'action-streamer[discover]'")

from tests.streamer.discovery.device import PASSWORD, USER, OnvifDevice

NAMESPACE = ("unshare", "--map-root-user", "--net")


def no_namespace() -> str:
    """Why no network namespace can be made here; "" if it can."""
    if not shutil.which("unshare"):
        return "unshare is not installed"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False)
    return "no network namespace can be made here" if tried.returncode else ""


def discover(*arguments: str, env: dict[str, str] | None = None) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["discover", *arguments], env={"ONVIF_PASSWORD": None, **(env or {})})


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return path


@pytest.mark.skipif(bool(no_namespace()), reason=no_namespace())
def test_cameras_that_answer_on_the_network_become_sources(secret: Path) -> None:
    asked = command("discover", "--wait-s", "1", "--user", USER, "--password-file", secret)
    within = [*NAMESPACE, sys.executable, "-m", "tests.streamer.discovery.device", *asked]
    ran = subprocess.run(within, capture_output=True, text=True, timeout=120, env=environment(), check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    (source,) = Config.model_validate(read_yaml(ran.stdout)).sources
    assert source.uri == "rtsp://127.0.0.1:8554/sub?channel=1&subtype=0"
    assert (source.name, source.user, source.password_file) == ("acme-door-cam", USER, secret)
    assert "# uri: rtsp://127.0.0.1:8554/main?channel=1&subtype=0    # main: H264 2560x1440 at 25" in ran.stdout
    assert "not as WS-Discovery does" in ran.stderr or "says that it is a camera at http://192.0.2.1/" in ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr


@pytest.fixture
def device() -> Iterator[OnvifDevice]:
    found = OnvifDevice()
    yield found
    found.close()


def test_a_camera_is_asked_at_its_host_and_port_with_a_password_of_the_environment(device: OnvifDevice) -> None:
    ran = discover(f"127.0.0.1:{device.server_port}", "--user", USER, env={"ONVIF_PASSWORD": PASSWORD})
    assert ran.exit_code == 0
    assert f"# a camera at {device.url}\n" in ran.output
    assert "    # password: set STREAMER_SOURCES__0__PASSWORD" in ran.output
    assert PASSWORD not in ran.output


def test_a_camera_that_refuses_is_told_and_no_camera_is_an_error(
    device: OnvifDevice, caplog: pytest.LogCaptureFixture
) -> None:
    ran = discover(device.url, "--user", USER, env={"ONVIF_PASSWORD": "wr0ng"})
    assert isinstance(ran.exception, SourceError)
    assert "no camera was found" in str(ran.exception)
    assert "refuses the user or the password" in caplog.text
    assert "wr0ng" not in caplog.text + ran.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rtsp://192.0.2.1/1"], "a camera is asked over HTTP"),
        (["http://admin:S3cret@192.0.2.1/"], "the user by --user"),
        (["192.0.2.1", "--user", "admin"], "has no password"),
        (["192.0.2.1", "--user", "admin", "--password-file", "nothing"], "nothing cannot be read"),
        (["192.0.2.1", "--password-file", __file__], "must hold the password alone"),
        (["192.0.2.1", "--user", "admin:S3cret", "--password-file", "one"], "no colon"),
        (["192.0.2.1:port"], "malformed"),
        (["http:///onvif"], "malformed"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one").write_text("x")
    ran = discover(*arguments)
    assert isinstance(ran.exception, StreamerError)
    assert told in str(ran.exception)
    assert "S3cret" not in str(ran.exception) + ran.output


def test_without_the_library_webcams_are_listed_and_the_way_to_it_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamer.commands.discover.find_spec", lambda _: None)
    monkeypatch.setattr("streamer.commands.discover.webcams", lambda: [Webcam(Path("/dev/video0"), "Desk", ())])
    ran = discover()
    assert Config.model_validate(read_yaml(ran.output)).sources[0].name == "desk"
    assert "pip install 'action-streamer[discover]'" in caplog.text
    assert isinstance(discover("192.0.2.1").exception, ConfigError)
