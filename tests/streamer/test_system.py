"""macOS and Windows, as far as Linux can play them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer import system
from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError
from streamer.sources import open_source
from streamer.system import check_system
from tests.streamer.commands.test_cli import environment

SYSTEMS = ("darwin", "win32")
KEYS = {"secret_key_file": "a", "authorized_keys_dir": "b"}
EVERYWHERE: list[tuple[dict[str, Any], str]] = [
    ({"clips": {"folder": "clips"}}, "clips.folder"),
    ({"publish": {"curve": KEYS}}, "publish.curve"),
    ({"control_curve": KEYS}, "control_curve"),
]
ON_WINDOWS: list[tuple[dict[str, Any], str]] = [
    ({"publish": {"address": "ipc:///a"}}, "publish.address: ipc:///a"),
    ({"control": "ipc:///a"}, "control: ipc:///a"),
    ({"view": {"address": "127.0.0.1:8080"}}, "view.address"),
    ({"sources": ["-"]}, "the source -"),
]


def elsewhere(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.streamer.elsewhere", name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment(), check=False)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_recognises_and_publishes_without_what_only_linux_has(name: str) -> None:
    ran = elsewhere(name, "run", "pattern://swipe", "--duration", "4", "--publish", "tcp://127.0.0.1:*")
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False), ran.stderr
    assert "  swipe  start  " in ran.stdout
    assert ("no commands are taken" in ran.stderr) == (name == "win32")


@pytest.mark.parametrize("name", SYSTEMS)
def test_labels_stay_on_the_machine_where_nobody_watches_who_reads_them(name: str) -> None:
    ran = elsewhere(name, "run", "pattern://swipe", "--publish", "tcp://0.0.0.0:*")
    assert ran.returncode == 2
    assert "kept in their limits on Linux only; use 127.0.0.1" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("asked", "told"), [*EVERYWHERE, *ON_WINDOWS])
def test_what_needs_linux_is_told_before_anything_begins(
    name: str, asked: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate(asked)
    check_system(config)
    monkeypatch.setattr(system, "LINUX", False)
    monkeypatch.setattr(system, "WINDOWS", name == "win32")
    if name == "win32" or (asked, told) in EVERYWHERE:
        with pytest.raises(ConfigError, match=f"^{told}: needs Linux; leave it out"):
            check_system(config)
    else:
        check_system(config)


@pytest.mark.parametrize("whose", ["the source", "the run"])
def test_a_process_for_a_source_is_refused_also_for_one_that_is_added(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.sources.LINUX", False)
    own, runs = ("process", "thread") if whose == "the source" else (None, "process")
    with pytest.raises(ConfigError, match=r"^capture: process: needs Linux"):
        open_source(SourceConfig.model_validate({"uri": "pattern://swipe", "capture": own}), (), runs)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SYSTEMS)
def test_check_tries_what_there_is(name: str) -> None:
    ran = elsewhere(name, "check")
    assert (ran.returncode, "FAILS" in ran.stdout) == (0, False), ran.stdout


def test_the_default_configuration_needs_no_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "LINUX", False)
    monkeypatch.setattr(system, "WINDOWS", True)
    check_system(Config())


def test_the_page_tells_all_that_is_refused() -> None:
    page = (Path(__file__).parents[2] / "docs/tasks/other_systems.md").read_text(encoding="utf-8")
    keys = {told.partition(": ipc")[0] for _, told in (*EVERYWHERE, *ON_WINDOWS)} - {"the source -"}
    keys |= {"capture: process", "streamer bridge exec"}
    assert {key for key in keys if f"`{key}`" not in page} == set()
