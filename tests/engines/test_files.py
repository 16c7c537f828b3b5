from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engines.files import replacing, same_file, write_whole

CODE = "import sys, pathlib; from engines.files import write_whole; write_whole(pathlib.Path(sys.argv[1]), b'new')"


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for before in (None, b"old"):
        if before:
            path.write_bytes(before)
        with pytest.raises(KeyError), replacing(path) as draft:  # noqa: PT012
            draft.write_bytes(b"half")
            raise KeyError
        assert [each.read_bytes() for each in tmp_path.iterdir()] == ([before] if before else [])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_long_name_and_a_device_are_no_hindrance(tmp_path: Path) -> None:
    write_whole(tmp_path / ("ü" * 127), b"new")
    write_whole(Path(os.devnull), b"new")
    assert Path(os.devnull).is_char_device()


def test_a_folder_that_is_not_there_is_known_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "no" / "out"):
        raise AssertionError("it was opened")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_is_mounted_is_written_in_its_place(tmp_path: Path) -> None:
    """As a container's `-v out.jsonl:/out.jsonl`: its folder takes new files, but it cannot be replaced."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.touch()
    outside.write_bytes(b"old")
    script = f'mount --bind "{outside}" "{inside}" && exec "{sys.executable}" -c "$0" "{inside}"'
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("nothing may be mounted here, not even in a namespace of its own")
    subprocess.run(["unshare", "-rm", "sh", "-c", script, CODE], check=True, cwd=Path(__file__).parents[2])
    assert outside.read_bytes() == b"new"
    assert inside.read_bytes() == b""


def test_links_of_both_kinds_are_the_same_file(tmp_path: Path) -> None:
    path, soft, hard, other = (tmp_path / name for name in ("a", "soft", "hard", "other"))
    soft.symlink_to(path)
    assert same_file(soft, path)  # which is not there yet
    path.write_bytes(b"")
    other.write_bytes(b"")
    hard.hardlink_to(path)
    assert same_file(soft, hard)
    assert same_file(path, tmp_path / "." / "a")
    assert not same_file(path, other)
    assert not same_file(path, tmp_path / "nowhere")
