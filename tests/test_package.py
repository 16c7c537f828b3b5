"""The package as `pip install` gives it: a wheel, in an environment with nothing else of this project."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from subprocess import PIPE
from zipfile import ZipFile

import pytest

from tests.conftest import WaitFor
from tests.tools.docs.pages import ROOT

DRAWN = {"0": "pattern://swipe", "rtsp://camera/stream1": "pattern://swipe"}
COMMANDS = dict.fromkeys(
    tuple(DRAWN.get(word, word) for word in line.partition(" # ")[0].split())
    for line in re.findall(r"^    (streamer .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
)
"""What the README shows, word by word, each once; cameras are drawn scenes."""

pytest.importorskip("setuptools", reason="pip install setuptools: the wheel is built with it")

Start = Callable[..., subprocess.Popen[str]]
QUIET = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built in a copy of it."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("README.md", "LICENSE", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, copy)
    for name in ("streamer", "engines"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("wheel", *QUIET, "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, timeout=120)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that has the wheel, and what it depends on from this one."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder)
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *QUIET, str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")  # and no editable install of it
    return python.parent


@pytest.fixture
def start(installed: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a program of that environment in an empty folder; it ends with the test."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("STREAMER_")}
    started = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [str(installed / program), *arguments]
        process = subprocess.Popen(command, cwd=tmp_path, env=known, stdout=PIPE, stderr=PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """What a program printed that did what it should."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    return out


def test_the_readme_shows_on_an_index_without_pictures_and_links_that_lead_nowhere(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        told = message_from_bytes(archive.read(name))
    text = str(told.get_payload())
    assert "# action-streamer" in text
    assert "(docs/" not in text
    assert re.findall(r"!\[", text) == []
    assert told["Description-Content-Type"] == "text/markdown"
    assert told["Keywords"]
    assert "Programming Language :: Python :: 3.10" in told.get_all("Classifier", [])


def test_what_is_installed_is_the_wheel_alone(start: Start) -> None:
    code = "import streamer, engines, importlib.util as u; print(streamer.__file__); print(u.find_spec('tools'))"
    where, tools = ended(start("python", "-c", code)).splitlines()
    assert "site-packages" in where
    assert tools == "None"


def test_a_configuration_that_init_writes_is_in_the_wheel_and_valid(start: Start) -> None:
    written = ended(start("streamer", "init", "many"))
    assert written == "wrote many.yaml; change it, then: streamer run -c many.yaml\n"
    shown = ended(start("streamer", "config", "-c", "many.yaml"))
    assert "sources.3.name: west  # many.yaml" in shown
    assert "events.background: [still]  # sidecar of default" in shown


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_the_readme_shows_works(
    words: tuple[str, ...], start: Start, write_video: Callable[..., Path], tmp_path: Path, wait_for: WaitFor
) -> None:
    """As it is typed, but that addresses are those of this test, and a run ends."""
    program, command, *rest = words
    labels, control = f"ipc://{tmp_path}/labels", f"ipc://{tmp_path}/control"
    write_video(count=40)  # clip.mp4
    if command in ("watch", "ctl"):
        start("streamer", "run", "pattern://swipe", "--publish", labels, "--set", f"control={control}", "--headless")
        wait_for((tmp_path / "control").exists)
    if command == "watch":
        watching = start(program, command, *rest, labels)
        assert watching.stdout
        assert any("  swipe  start  " in line for line in watching.stdout)
        watching.send_signal(signal.SIGINT)
    elif command == "ctl":
        assert '"streams"' in ended(start(program, command, *rest, "--address", control))
    elif command in ("teach", "tune"):  # their own tests do it, which takes a minute and recordings
        assert f"streamer {command} " in ended(start(program, command, "--help"))
    elif command == "record":
        drawn = ["--source", "clip.mp4", "--clips", "1", "--seconds", "1", "--countdown", "0"]
        ended(start(program, command, *rest, *drawn))
    else:
        options = ["127.0.0.1:0"] if rest[-1:] == ["--view"] else []
        options += ["--duration", "1", "--publish", labels] if command == "run" else []
        ended(start(program, command, *rest, *options))


def test_the_readme_shows_the_commands_that_people_begin_with() -> None:
    assert {"run", "watch", "replay", "init", "ctl"} <= {words[1] for words in COMMANDS}
