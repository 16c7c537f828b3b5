"""The command under consoles of all kinds: other encodings, closed and full outputs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from .test_cli import ANY_PORT, SCRIPTED, command, environment, line_with, streamer

RUN = ("run", "pattern://swipe", "--no-publish", "--duration", 1, *SCRIPTED)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_any_encoding_shows_what_it_can(encoding: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*RUN), stdout=theirs, stderr=subprocess.PIPE, env=environment() | {"PYTHONIOENCODING": encoding}
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux says so when the other side is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert "label in force" in shown.decode(encoding)
    assert b"swipe" in shown


@pytest.mark.parametrize("arguments", [("config",), RUN])
def test_an_output_that_is_full_ends_in_one_sentence(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, env=environment(), text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        "streamer: the output: cannot be written: No space left on device; free some space, or write elsewhere\n"
    )


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [(RUN, ">&- 2>&- <&-"), (("replay", "'pattern://swipe?duration=1'", "--out", "-", *SCRIPTED), ">&-")],
)
def test_outputs_that_are_closed_do_not_matter(arguments: tuple[object, ...], closed: str) -> None:
    line = f"{' '.join(command(*arguments))} {closed}"
    done = subprocess.run(line, shell=True, env=environment(), check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_json_is_utf_8_in_every_terminal(tmp_path: Path) -> None:
    model = tmp_path / "net.scores.json"
    model.write_text(json.dumps({"labels": ["été", "█"], "scores": [[0.9, 0.1]], "height": 32, "width": 32}))
    arguments = ("run", "pattern://swipe", "--model", model, *SCRIPTED, *ANY_PORT)
    run = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment())
    watch = subprocess.Popen(
        command("watch", line_with(run, "labels ").split()[1], "--json", "--kind", "score"),
        stdout=subprocess.PIPE, env=environment() | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    try:
        assert watch.stdout
        assert {label for label, _ in json.loads(watch.stdout.readline())["topk"]} == {"été", "█"}
    finally:
        for process in (run, watch):
            process.kill()
            process.communicate()


def test_names_of_files_in_other_encodings_are_shown(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.yaml")
    Path(name).write_text("buffer: 3\n")
    done = streamer("config", "-c", name)
    assert done.returncode == 0
    assert "buffer: 3  # " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("config", "rtsp://user:S3cr3t pw/x@127.0.0.1/cam"),
        ("run", "--duration", "rtsp://user:S3cr3t@127.0.0.1/cam"),
        ("run", "--view-token=S3cr3t", "--nothing=rtsp://user:S3cr3t@cam"),
        ("user:S3cr3t@cam",),
        ("run", "--view", f"rtsp://user:S3cr3t@cam/{'x' * 3000}"),
    ],
)
def test_a_wrong_command_line_is_told_without_its_passwords(arguments: tuple[str, ...]) -> None:
    done = streamer(*arguments)
    assert done.returncode == 2
    assert "S3cr3t" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
