"""The commands `streamer ctl`, `streamer keygen` and `streamer watch`, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.labels.curve import write_keys

from .test_cli import command, environment, line_with, streamer

ARGUMENTS = ("run", "pattern://swipe?size=64x48", "--backend", "scripted", "--publish", "tcp://127.0.0.1:*")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test's own, with a name that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="run") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*ARGUMENTS, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def test_ctl_finds_the_only_run_of_its_user_and_says_so_if_there_is_none_or_another(runtime: Path) -> None:
    none = streamer("ctl", "status")
    assert none.returncode == 2
    assert f"no run of yours takes commands here (looked in {runtime}/action-streamer, " in none.stderr.replace(
        "\n", ""
    )
    with start() as one, start() as other:
        addresses = [line_with(process, "control ").split()[1] for process in (one, other)]
        several = streamer("ctl", "status").stderr.replace("\n", "")
        assert "2 runs of yours take commands; choose one with --address" in several
        assert all(address in several for address in addresses)
        assert streamer("ctl", "drain", "--address", addresses[0]).returncode == 0
        one.communicate(timeout=60)
        assert json.loads(streamer("ctl", "status").stdout)["labels"]
        other.kill()
        other.communicate()
        (left,) = (runtime / "action-streamer").iterdir()  # it could not tidy up
        assert "no run of yours takes commands" in streamer("ctl", "status").stderr.replace("\n", " ")
        os.utime(left, (0, 0))
        with start() as third:
            line_with(third, "control ")
            assert not left.exists()
            third.kill()
            third.communicate()


def test_another_model_takes_over_in_a_run_of_another_folder(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two.scores.json").write_text('{"labels": ["up", "down"], "scores": [[0.9, 0.1]]}')
    with start() as process:
        line_with(process, "control ")
        monkeypatch.chdir(tmp_path)
        done = streamer("ctl", "model", "two.scores.json")
        assert json.loads(done.stdout)["model"].startswith("two@"), done.stderr
        line_with(process, "start   up 0.9")
        refused = streamer("ctl", "model", "tow")
        assert refused.returncode == 2
        assert "no model is called 'tow'" in refused.stderr
        assert json.loads(streamer("ctl", "status").stdout)["knows"] == ["up", "down"]
        assert streamer("ctl", "drain").returncode == 0
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_run_that_encrypts_is_watched_by_those_who_may_read_and_directed_by_those_who_may_control(
    tmp_path: Path,
) -> None:
    made = streamer("keygen", tmp_path / "server")
    assert made.returncode == 0, made.stderr
    assert f"{tmp_path}/server.key_secret: the secret key; keep it here" in made.stdout
    secret = (tmp_path / "server.key_secret").read_text().rpartition("secret-key")[2].strip(' ="\n')
    settings: list[object] = ["--set", "control=tcp://127.0.0.1:*"]
    for section, who in (("publish.curve", "reader"), ("control_curve", "boss")):
        (tmp_path / section).mkdir()
        write_keys(tmp_path / section / who)
        settings += ["--set", f"{section}.secret_key_file={tmp_path}/server.key_secret"]
        settings += ["--set", f"{section}.authorized_keys_dir={tmp_path}/{section}"]
    reading, directing = (
        ("--server-key", tmp_path / "server.key", "--key", tmp_path / name)
        for name in ("publish.curve/reader.key_secret", "control_curve/boss.key_secret")
    )
    with start(*settings) as process:
        labels = line_with(process, "labels  ").split()[1]
        control = line_with(process, "control ").split()[1]
        refused = streamer("ctl", "drain", "--address", control, *reading)
        assert refused.returncode == 2
        assert "no answer from" in refused.stderr
        added = streamer("ctl", "add", "pattern://still", "--name", "second", "--address", control, *directing)
        assert json.loads(added.stdout) == {"stream": "second"}, added.stderr
        with subprocess.Popen(
            command("watch", labels, "--json", "--stream", "second", *reading),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        ) as watching:  # fmt: skip
            assert json.loads(line_with(watching, '"kind"'))["stream"] == "second"
            watching.kill()
        drained = streamer("ctl", "drain", "--address", control, *directing)
        assert drained.returncode == 0, drained.stderr
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "second  source  stopped" in out
        assert secret not in out + err


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (("control=tcp://127.0.0.1:*",), "control: whoever reaches tcp://127.0.0.1:* could control the run"),
        (("control=tcp://0.0.0.0:5558",), "set control_curve"),
        (
            [
                f"{section}={{secret_key_file: s, authorized_keys_dir: keys/{up}}}"
                for section, up in (("publish.curve", "../keys"), ("control_curve", ""))
            ],
            "is the folder of publish.curve, so whoever may read labels could control the run",
        ),
    ],
)
def test_a_run_that_anybody_could_control_does_not_begin(settings: tuple[str, ...], problem: str) -> None:
    sets = [argument for setting in settings for argument in ("--set", setting)]
    done = streamer(*ARGUMENTS, "--duration", 1, *sets)
    assert done.returncode == 2
    assert problem in " ".join(done.stderr.split())


def test_a_run_without_a_folder_for_its_control_socket_says_so_and_goes_on(runtime: Path) -> None:
    (runtime / "action-streamer").touch()
    done = streamer(*ARGUMENTS, "--duration", 1)
    assert done.returncode == 0
    assert "no commands are taken: " in done.stderr
    assert "control -" in done.stdout
    assert streamer(*ARGUMENTS, "--set", f"control=ipc://{runtime}/action-streamer").returncode == 2


def test_watch_says_why_it_waits(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/labels"
    with subprocess.Popen(
        command("watch", address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as watching:
        assert watching.stderr
        told = watching.stderr.readline()
        assert told.startswith(f"waiting for {address}: there is no such socket; nobody has bound it yet; ")
        with start("--publish", address) as process:
            assert "swipe" in line_with(watching, "source  online")
            process.kill()
            process.communicate()
        watching.kill()
        assert watching.stderr.read() == ""
