from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.labels.control import Control
from streamer.labels.runtime import find_address, new_address


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No runtime folder, and a folder for temporary files of this test's own, with a short name."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory() as name, monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", name)
        yield Path(name)


def test_the_socket_and_its_folder_are_the_users_alone_whatever_the_umask(temporary: Path) -> None:
    before = os.umask(0)
    try:
        with Control("auto") as control:
            path = Path(control.address.removeprefix("ipc://"))
            assert path.parent == temporary / f"action-streamer-{os.geteuid()}"
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert find_address() == control.address
            assert os.umask(0) == 0
        assert not path.exists()
    finally:
        os.umask(before)


@pytest.mark.parametrize("trap", ["link", "file", "open"])
def test_a_folder_that_somebody_else_prepared_is_not_used(trap: str, temporary: Path) -> None:
    folder = temporary / f"action-streamer-{os.geteuid()}"
    if trap == "link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(temporary / "elsewhere")
    elif trap == "file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(ConfigError, match=re.escape(str(folder))):
        new_address()
    with pytest.raises(ConfigError, match="no run of yours"):
        find_address()


def test_a_folder_of_another_owner_is_not_used(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = temporary / f"action-streamer-{os.geteuid() + 1}"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: int(folder.name.rpartition("-")[2]))
    with pytest.raises(ConfigError, match="is no folder of your own"):
        new_address()


def test_a_folder_whose_name_is_too_long_for_a_socket_is_passed_over(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("a" * 90)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with Control("auto") as control:
        assert str(long) not in control.address
        assert find_address() == control.address


def test_the_runtime_folder_of_another_user_is_passed_over(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = temporary / "other"
    other.mkdir(mode=0o700)
    other.chmod(0o755)  # for the owner's check a user more would be needed
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
    assert str(other) not in new_address()
    other.chmod(0o700)
    assert new_address().startswith(f"ipc://{other}/action-streamer/")
