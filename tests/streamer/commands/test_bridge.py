"""`streamer bridge`, in processes of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from streamer.commands import app
from streamer.errors import ConfigError
from tests.streamer.bridges.broker import Listener, Mosquitto, needs_mosquitto
from tests.streamer.bridges.peers import Speaker, Web, events, reading

from .test_cli import line_with, start

__all__ = ["start"]

Start = Callable[..., subprocess.Popen[str]]


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[str, str]:
    """End a bridge: what it said at the end, on both outputs."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()[-1], err


def test_a_webhook_carries_what_is_chosen_until_it_is_ended(start: Start, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n", encoding="utf-8")
    with Speaker() as speaker, Web() as web:
        chosen = ("--label", "wave", "--type", "end", "--template", '["$label", "$clip_url"]', "--clips", "http://nas")
        ends = ("--from", speaker.address, "--url", web.url)
        process = start("bridge", "webhook", *ends, *chosen, "--secret-file", secret)
        assert line_with(process, "webhook ").endswith(f"http://127.0.0.1:{web.server_port}/...")
        speaker.heard()
        speaker.say([*events(speaker.build), *events(speaker.build, label="clap")])
        speaker.until(lambda: web.got)
        assert json.loads(web.got[0][1]) == ["wave", "http://nas/door-1.mp4"]
        assert web.got[0][0]["X-Hub-Signature-256"].startswith("sha256=")
        told, err = ended(process)
        assert told == "1 events, 1 sent, 0 given up, 0 dropped, 0 missed, 0 not understood"
        assert err == ""


def test_a_program_is_started_for_each_event_until_ctrl_c(start: Start, tmp_path: Path) -> None:
    with Speaker() as speaker:
        process = start("bridge", "exec", "--from", speaker.address, "--", *reading(tmp_path), "--view")
        line_with(process, "exec ")
        speaker.heard()
        speaker.say(events(speaker.build))
        speaker.until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text("utf-8").count("\n") == 2)
        told, err = ended(process, signal.SIGINT)
        assert told == "2 events, 2 done, 0 failed, 0 dropped, 0 missed, 0 not understood"
        assert err == ""


@needs_mosquitto
def test_the_broker_is_told_when_the_bridge_ends_and_when_it_is_killed(start: Start, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with Speaker() as speaker, closing(Listener(broker)) as listener:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = start("bridge", "mqtt", "--from", speaker.address, "--broker", broker.address)
            line_with(process, "broker ")
            speaker.until(lambda: listener.sensors() == {"door/wave": "ON"}, lambda: events(speaker.build)[:1])
            speaker.until(lambda: listener.kept.get("action-streamer/bridge") == "online")
            if number == signal.SIGTERM:
                _, err = ended(process)
                assert err == ""
                speaker.until(lambda: listener.kept.get("action-streamer/bridge") == "offline")
                assert listener.kept["action-streamer/door/available"] == "offline"
                assert listener.sensors() == {"door/wave": "OFF"}
            else:
                process.kill()
            speaker.until(lambda: listener.kept.get("action-streamer/bridge") == "offline")
    broker.kill()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mqtt", "--broker", "tcp://x"], "--broker: is not mqtt://"),
        (["mqtt", "--broker", "mqtt://u:S3cr3t@x"], "--password-file"),
        (["mqtt", "--prefix", "a/#"], "--prefix 'a/#': cannot begin topics"),
        (["mqtt", "--from", "nonsense"], "is not an address"),
        (["webhook"], "give one of --url"),
        (["webhook", "--url", "http://u:S3cr3t@x/"], "use --url-file"),
        (["webhook", "--url", "http://x/", "--type", "begin"], "there are start, update, end"),
        (["webhook", "--url", "http://x/", "--template", "$lable"], "did you mean 'label'?"),
        (["webhook", "--url", "http://x/", "--template", "@none"], "@none: cannot be read"),
        (["exec", "--", "no-such-program"], "there is no program"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as error:
        app(args=["bridge", *arguments], standalone_mode=False)
    assert "S3cr3t" not in str(error.value)


def test_without_the_extra_the_bridge_to_a_broker_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streamer.bridges.mqtt", raising=False)
    monkeypatch.delitem(sys.modules, "streamer.bridges.link", raising=False)
    monkeypatch.setitem(sys.modules, "paho", None)
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'action-streamer\[mqtt\]'"):
        app(args=["bridge", "mqtt"], standalone_mode=False)


def test_a_bridge_goes_on_when_nobody_reads_what_it_prints(start: Start, tmp_path: Path) -> None:
    with Speaker() as speaker:
        process = start("bridge", "exec", "--from", speaker.address, "--", *reading(tmp_path))
        line_with(process, "exec ")
        assert process.stdout
        process.stdout.close()
        speaker.heard()
        speaker.say(events(speaker.build))
        speaker.until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text("utf-8").count("\n") == 2)
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert process.stderr.read() == ""
        assert process.wait(60) == 0
