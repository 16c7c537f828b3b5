"""The package as `pip install` gives it: a wheel, in an environment with nothing else of this project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.tools.docs.pages import ROOT

pytest.importorskip("setuptools", reason="pip install setuptools: the wheel is built with it")

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
def run(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of that environment in an empty folder."""
    known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("STREAMER_")}

    def run(program: str, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / program, *arguments], cwd=tmp_path, env=known, capture_output=True, text=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip

    return run


Run = Callable[..., subprocess.CompletedProcess[str]]


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


def test_what_is_installed_is_the_wheel_alone(run: Run) -> None:
    code = "import streamer, engines, importlib.util as u; print(streamer.__file__); print(u.find_spec('tools'))"
    where, tools = run("python", "-c", code).stdout.splitlines()
    assert "site-packages" in where
    assert tools == "None"


def test_a_configuration_that_init_writes_is_in_the_wheel_and_valid(run: Run) -> None:
    assert run("streamer", "init", "many").stdout == "wrote many.yaml; change it, then: streamer run -c many.yaml\n"
    shown = run("streamer", "config", "-c", "many.yaml").stdout
    assert "sources.3.name: west  # many.yaml" in shown
    assert "events.background: [still]  # sidecar of default" in shown
