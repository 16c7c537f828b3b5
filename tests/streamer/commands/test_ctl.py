"""The commands `streamer ctl`, `streamer keygen` and `streamer watch --key`, in processes of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from streamer.labels.curve import write_keys

from .test_cli import command, environment, line_with, streamer


def test_a_run_that_encrypts_is_watched_and_directed_by_those_who_have_a_key(tmp_path: Path) -> None:
    authorized = tmp_path / "authorized"
    authorized.mkdir()
    write_keys(authorized / "me")
    made = streamer("keygen", tmp_path / "server")
    assert made.returncode == 0, made.stderr
    assert f"{tmp_path}/server.key_secret: the secret key; keep it here" in made.stdout
    secret = (tmp_path / "server.key_secret").read_text().rpartition("secret-key")[2].strip(' ="\n')
    keys = ("--server-key", tmp_path / "server.key", "--key", authorized / "me.key_secret")
    arguments = (
        "run", "pattern://swipe", "--backend", "scripted", "--publish", "tcp://127.0.0.1:*",
        "--set", f"publish.curve.secret_key_file={tmp_path}/server.key_secret",
        "--set", f"publish.curve.authorized_keys_dir={authorized}",
    )  # fmt: skip
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        labels = line_with(process, "labels  ").split()[1]
        control = line_with(process, "control ").split()[1]
        added = streamer("ctl", "add", "pattern://still", "--name", "second", "--address", control, *keys)
        assert json.loads(added.stdout) == {"stream": "second"}, added.stderr
        with subprocess.Popen(
            command("watch", labels, "--json", "--stream", "second", *keys),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        ) as watching:  # fmt: skip
            assert json.loads(line_with(watching, '"kind"'))["stream"] == "second"
            watching.kill()
        drained = streamer("ctl", "drain", "--address", control, *keys)
        assert drained.returncode == 0, drained.stderr
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "second  source  stopped" in out
        assert secret not in out + err
