"""The bridge to programs, with real ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.bridges import exec as bridges
from streamer.bridges.exec import Exec
from streamer.bridges.feed import Choice
from streamer.errors import ConfigError
from tests.streamer.bridges.peers import event, reading

WaitFor = Callable[[Callable[[], bool]], None]
Begin = Callable[..., Exec]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begin bridges; they end with the test."""
    begun = []

    def start(*command: str, **options: Any) -> Exec:
        begun.append(Exec(command, options.pop("choice", Choice()), **options))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


def test_a_program_reads_the_event_and_finds_it_in_its_environment(
    begin: Begin, wait_for: WaitFor, tmp_path: Path
) -> None:
    bridge = begin(*reading(tmp_path))
    bridge.take(event("start", "$(touch x); `id` 👋\0"))
    bridge.take(event("end"))
    wait_for(lambda: bridge.counts() == {"events": 2, "done": 2, "failed": 0, "dropped": 0})
    first, second = map(json.loads, (tmp_path / "seen").read_text(encoding="utf-8").splitlines())
    assert first["label"] == "$(touch x); `id` 👋\0"
    assert first["found"]["ACTION_LABEL"] == "$(touch x); `id` 👋"
    assert (first["type"], second["type"]) == ("start", "end")
    assert second["found"] == {
        "ACTION_STREAM": "door",
        "ACTION_TYPE": "end",
        "ACTION_LABEL": "wave",
        "ACTION_ID": "door-0",
        "ACTION_PEAK": "0.9375",
        "ACTION_CLIP": "door-1",
    }


def test_a_program_that_fails_or_does_not_read_is_counted_and_told_once(
    begin: Begin, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = begin(sys.executable, "-c", "raise SystemExit(3)")
    for _ in range(3):
        bridge.take(event("start", "x" * 200_000))
        bridge.take(event("start"))
    wait_for(lambda: bridge.counts()["failed"] == 6)
    assert caplog.text.count("ended with exit code 3") == 1
    assert caplog.text.count("cannot be started: Argument list too long") == 1


def test_a_program_that_does_not_end_is_ended_with_what_it_started(
    begin: Begin, wait_for: WaitFor, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "_TERM_S", 0.2)
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "child and open(sys.argv[1], 'w').write(str(child))\n"
        "time.sleep(60)\n"
    )
    bridge = begin(sys.executable, "-c", code, str(tmp_path / "child"), timeout_s=1.0)
    bridge.take(event("start"))
    wait_for(lambda: bridge.counts()["failed"] == 1)
    assert "did not end within 1 s" in caplog.text
    child = Path("/proc", (tmp_path / "child").read_text(encoding="utf-8"), "stat")
    wait_for(lambda: not child.exists() or child.read_text(encoding="utf-8").split(") ")[1][0] in "ZX")


def test_no_more_run_at_once_than_are_allowed_and_the_rest_is_bounded(
    begin: Begin, wait_for: WaitFor, tmp_path: Path
) -> None:
    code = (
        "import pathlib, sys, time\n"
        "mine = pathlib.Path(sys.argv[1], str(time.time_ns()))\n"
        "mine.touch()\n"
        "while not pathlib.Path(sys.argv[1], 'go').exists(): time.sleep(0.01)\n"
    )
    bridge = begin(sys.executable, "-c", code, str(tmp_path), at_once=2, most=3)
    for _ in range(100):
        bridge.take(event("start"))
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    assert bridge.counts()["dropped"] >= 95
    (tmp_path / "go").touch()
    wait_for(lambda: sum(bridge.counts().values()) == 200)


def test_the_end_ends_what_runs_and_drops_what_waits(
    begin: Begin, wait_for: WaitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "CLOSE_S", 0.3)
    code = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'begun').touch(); time.sleep(60)"
    bridge = begin(sys.executable, "-c", code, str(tmp_path))
    bridge.take(event("start"))
    bridge.take(event("end"))
    wait_for((tmp_path / "begun").exists)
    bridge.close()
    assert bridge.counts() == {"events": 2, "done": 0, "failed": 1, "dropped": 1}


def test_on_windows_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridges, "WINDOWS", True)
    with pytest.raises(ConfigError, match="needs Linux or macOS"):
        Exec(["true"], Choice())


def test_a_program_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="no program 'no-such-program' that can be run"):
        Exec(["no-such-program"], Choice())
