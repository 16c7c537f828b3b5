"""Where the cache is, also for a user without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines import cache, load_engine


@pytest.fixture
def no_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment that names no cache; temporary files are in the folder given."""
    for name in ("ACTION_STREAMER_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache.default_folder.cache_clear()
    yield tmp_path
    cache.default_folder.cache_clear()


def nobody_at_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_cache_is_where_the_environment_says(no_cache_is_named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(no_cache_is_named / "home"))
    assert cache.cache_folder() == no_cache_is_named / "home/.cache/action-streamer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_cache_is_named / "xdg"))
    assert cache.cache_folder() == no_cache_is_named / "xdg/action-streamer"
    monkeypatch.setenv("ACTION_STREAMER_CACHE", "/nowhere")
    assert cache.cache_folder() == Path("/nowhere")


def test_without_a_home_the_cache_is_a_folder_of_the_users_own_which_is_told_once(
    no_cache_is_named: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "home", nobody_at_home)
    own = no_cache_is_named / f"action-streamer-{os.getuid()}"
    assert [cache.cache_folder(), cache.cache_folder()] == [own, own]
    assert own.stat().st_mode & 0o777 == 0o700
    (told,) = caplog.messages
    assert told.startswith("there is no home folder: the cache is in")


def test_a_home_that_cannot_be_written_is_as_none(
    no_cache_is_named: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (no_cache_is_named / "file").write_text("in the folder's place")
    monkeypatch.setenv("HOME", str(no_cache_is_named / "file"))
    assert cache.cache_folder() == no_cache_is_named / f"action-streamer-{os.getuid()}"
    assert "cannot be written" in caplog.text


def test_where_nothing_can_be_written_there_is_no_cache_and_no_error(
    no_cache_is_named: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "home", nobody_at_home)
    monkeypatch.setattr(tempfile, "tempdir", str(no_cache_is_named / "nothing"))
    assert not cache.can_be_made(cache.cache_folder())
    assert "every start compiles anew" in caplog.text
    assert np.isfinite(load_engine("default", "openvino").new_state(1).snapshot()["layer1.0.shift.last"]).all()


def test_a_folder_that_another_user_could_have_prepared_is_not_taken(
    no_cache_is_named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", nobody_at_home)
    prepared = no_cache_is_named / f"action-streamer-{os.getuid()}"
    elsewhere = no_cache_is_named / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    prepared.symlink_to(elsewhere)
    assert cache.cache_folder() not in (prepared, elsewhere)
    cache.default_folder.cache_clear()
    prepared.unlink()
    prepared.mkdir()
    prepared.chmod(0o777)
    assert cache.cache_folder() != prepared


def test_a_run_does_without_a_home_and_without_a_user_of_that_number(tmp_path: Path) -> None:
    as_another = ["unshare", "--user", "--map-user=12345"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*as_another, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("user namespaces cannot be made here")
    command = [sys.executable, "-m", "streamer", "run", "pattern://swipe?duration=1", "--headless", "--no-publish"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*as_another, *command, "--set", "control=null"],
        capture_output=True, text=True, check=False, timeout=100, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the cache is in") == 1
    assert list((tmp_path / "action-streamer-12345").rglob("*.blob"))
