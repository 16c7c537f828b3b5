"""What commands write never costs what they read, and what cannot be written is one sentence."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamer.commands.keygen import keygen
from streamer.commands.models import import_model
from streamer.commands.replay import replay
from streamer.errors import ConfigError, SourceError

from .test_cli import SCRIPTED, command, environment


def small_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def on_a_small_disk(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, where files end at 1000 bytes."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=240, env=environment(), check=False,
        preexec_fn=small_disk,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--out", "--render"])
@pytest.mark.parametrize("kind", ["same", "symlink", "hardlink", "other way", "second"])
def test_replay_does_not_write_over_what_it_replays(
    option: str, kind: str, write_video: Callable[..., Path], tmp_path: Path
) -> None:
    clip = write_video()
    before, name = clip.read_bytes(), tmp_path / "name.mp4"
    if kind == "symlink":
        name.symlink_to(clip)
    elif kind == "hardlink":
        name.hardlink_to(clip)
    elif kind == "other way":
        (tmp_path / "folder").mkdir()
        name = tmp_path / "folder" / ".." / clip.name
    else:
        name = clip
    files = [*(["pattern://swipe?duration=1"] if kind == "second" and option == "--out" else []), f"file:{clip}"]
    with pytest.raises(ConfigError, match=f"{option} {re.escape(str(name))}: this is the file that is replayed"):
        replay(
            files,
            out=name if option == "--out" else None,
            render=name if option == "--render" else None,
            backend="scripted",
        )
    assert clip.read_bytes() == before


def test_replay_does_not_write_over_what_else_it_reads(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("buffer: 3\n")
    for suffix in (".json", ".onnx"):
        shutil.copy(Path("engines/weights") / f"default{suffix}", tmp_path / f"default{suffix}")
    options: dict[str, Any] = {"config": config, "model": str(tmp_path / "default.onnx"), "backend": "scripted"}
    for out in (config, tmp_path / "default.json", tmp_path / "default.onnx"):
        before = out.read_bytes()
        with pytest.raises(ConfigError, match="this is the file that is read"):
            replay(["pattern://swipe?duration=1"], out=out, **options)
        assert out.read_bytes() == before
    with pytest.raises(ConfigError, match="given with --out"):
        replay(["pattern://swipe?duration=1"], out=tmp_path / "x.mp4", render=tmp_path / "x.mp4", **options)


def test_a_script_of_scores_is_replayed_and_not_written_over(tmp_path: Path) -> None:
    script = tmp_path / "mine.scores.json"
    script.write_text('{"labels": ["a", "b"], "scores": [[0.9, 0.1]]}')
    replay(["pattern://swipe?duration=2"], out=tmp_path / "out.jsonl", model=str(script))
    assert '"label":"a"' in (tmp_path / "out.jsonl").read_text()
    with pytest.raises(ConfigError, match="this is the file that is read"):
        replay(["pattern://swipe?duration=2"], out=script, model=str(script))


def test_replay_does_not_append_to_what_it_replays(write_video: Callable[..., Path]) -> None:
    clip = write_video()
    before = clip.read_bytes()
    with clip.open("ab") as file:
        done = subprocess.run(
            command("replay", clip, "--out", "-", *SCRIPTED), stdout=file, stderr=subprocess.PIPE, env=environment(),
            text=True, timeout=240, check=False,
        )  # fmt: skip
    assert (done.returncode, "the file that is replayed" in done.stderr) == (2, True)
    assert clip.read_bytes() == before


def test_a_replay_that_fails_leaves_what_was_there(write_video: Callable[..., Path], tmp_path: Path) -> None:
    out, broken = tmp_path / "out.jsonl", tmp_path / "broken.mp4"
    out.write_text("old\n")
    broken.write_bytes(b"no video")
    with pytest.raises(SourceError, match="not a video"):
        replay([str(write_video()), str(broken)], out=out, backend="scripted")
    assert out.read_text() == "old\n"
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "broken.mp4", "clip.mp4"}


@pytest.mark.parametrize("name", ["out.jsonl", "out.mkv"])
def test_a_full_disk_ends_a_replay_in_one_sentence(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    option = "--render" if out.suffix != ".jsonl" else "--out"
    out.write_text("old\n")
    done = on_a_small_disk("replay", "pattern://swipe?duration=3", option, out, "--kind", "score", *SCRIPTED)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"streamer: {option} {out}: cannot be written: File too large"
    assert "Traceback" not in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old\n"]


@pytest.mark.parametrize("arguments", [("--out", "/dev/full"), ("--out", "-")])
def test_a_device_that_is_full_is_told(arguments: tuple[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("replay", "pattern://swipe?duration=4", *arguments, *SCRIPTED), stdout=full,
            stderr=subprocess.PIPE, env=environment(), text=True, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_made_both_or_none_and_never_over_others(tmp_path: Path) -> None:
    name = tmp_path / "server"
    for suffix in (".key", ".key_secret"):
        taken = Path(f"{name}{suffix}")
        taken.symlink_to(tmp_path / "nowhere")
        with pytest.raises(ConfigError, match="exists already"):
            keygen(name)
        assert list(tmp_path.iterdir()) == [taken]
        taken.unlink()
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        keygen(tmp_path / "no" / "server")


def test_keygen_on_a_full_disk_leaves_no_half_pair(tmp_path: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))

    done = subprocess.run(
        command("keygen", tmp_path / "server"), capture_output=True, text=True,
        env=environment(), check=False, preexec_fn=full,
    )  # fmt: skip
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_import_does_not_write_over_the_checkpoint_or_its_labels(tmp_path: Path) -> None:
    checkpoint, labels = tmp_path / "net.pt", tmp_path / "net.json"
    checkpoint.write_bytes(b"weights")
    labels.write_text("one\n")
    for out, read in ((tmp_path / "net", checkpoint), (tmp_path / "other", labels)):
        (tmp_path / "other.json").unlink(missing_ok=True)
        (tmp_path / "other.json").symlink_to(labels)
        with pytest.raises(ConfigError, match="this is the file that is read"):
            import_model(checkpoint, out, labels)
        assert read.stat().st_size > 0
