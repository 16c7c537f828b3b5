"""No password of a camera is in anything that the program says, whatever goes wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import traceback
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing

import pytest

from streamer.commands.options import make_settings, make_sources
from streamer.errors import StreamerError
from streamer.labels.messages import StatusMessage, encode
from streamer.labels.subscriber import Subscriber
from tools.cameras import RtspServer

from .commands.test_cli import command, environment, line_with
from .health.monitored import get, health

PASSWORD = "S3cr3t@pw"
IN_ADDRESSES = "user:S3cr3t%40pw@"
SECRETS = (
    PASSWORD,
    "S3cr3t",
    *(b64encode(text.encode()).decode().rstrip("=") for text in (f"user:{PASSWORD}", "user:S3cr3t%40pw")),
)
LIMITS = {"open_s": 1.0, "read_s": 0.5}


def leaks(*texts: str) -> list[str]:
    return [secret for secret in SECRETS for text in texts if secret in text]


@pytest.mark.parametrize(("style", "capture"), [("text", "thread"), ("json", "process")])
def test_no_fault_of_a_camera_tells_its_password(
    style: str, capture: str, rtsp_server: Callable[..., RtspServer], wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    dying, freezing = (rtsp_server("--user", "user", "--password", PASSWORD) for _ in range(2))
    other = rtsp_server("--user", "user", "--password", "another")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        addresses = {
            "refused": f"rtsp://{IN_ADDRESSES}127.0.0.1:1/cam",
            "password": other.url(IN_ADDRESSES),
            "path": freezing.url(IN_ADDRESSES, "/nothing"),
            "silent": f"rtsp://{IN_ADDRESSES}127.0.0.1:{silent.getsockname()[1]}/cam",
            "killed": dying.url(IN_ADDRESSES),
            "frozen": freezing.url(IN_ADDRESSES),
        }
        sources = [{"uri": uri, "name": name, "capture": capture, **LIMITS} for name, uri in addresses.items()]
        arguments = ("run", "--backend", "scripted", "--publish", "tcp://127.0.0.1:*", "--metrics", "127.0.0.1:0")
        process = subprocess.Popen(
            command(*arguments, "--set", f"sources={json.dumps(sources)}", "--log", style),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        try:
            metrics = line_with(process, "metrics ").split("/")[2]
            labels = line_with(process, "labels ").split()[1]
            details: dict[str, set[str]] = {name: set() for name in addresses}
            pages, statuses = [], []

            def are(**wanted: str) -> bool:
                """Whether /healthz says this of some sources."""
                report = health(metrics)[1]
                pages.append(json.dumps(report))
                for name, stream in report["streams"].items():
                    details[name].add(stream["detail"])
                return all(report["streams"][name]["source"] == source for name, source in wanted.items())

            with Subscriber(labels, kinds=["status"], timeout_s=60) as subscriber:
                wait_for(lambda: are(killed="online", frozen="online", path="offline", password="offline"))
                dying.kill()
                freezing.freeze()
                wait_for(lambda: are(**dict.fromkeys(addresses, "offline")))
                offline: set[str] = set()
                for message in subscriber:
                    assert isinstance(message, StatusMessage)
                    statuses.append(encode(message).decode())
                    offline |= {message.stream} if message.source == "offline" else set()
                    if offline == set(addresses):
                        break
            freezing.thaw()
            pages.append(get(metrics, "/metrics")[1].decode())
            process.terminate()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    for name, part in {
        "refused": "connection refused",
        "password": "wrong user name or password",
        "path": "no such stream",
        "silent": "no answer within 1 s",
        "killed": "connecting again",
        "frozen": "no data for 0.5 s",
    }.items():
        assert any(part in detail and "rtsp://***@127.0.0.1" in detail for detail in details[name])
        assert style == "text" or any(json.loads(line).get("stream") == name for line in err.splitlines())
    assert "rtsp://***@" in out
    assert leaks(out, err, *pages, *statuses) == []


@pytest.mark.parametrize(
    "uri",
    [
        f"rtsp://{IN_ADDRESSES}127.0.0.1:99999/cam",
        f"rtsp://{IN_ADDRESSES}/cam",
        f"rtsp://user:{PASSWORD}@127.0.0.1:x/cam",
        "rtsp://user:S3cr3t pw@127.0.0.1:x/cam",
        "rtsp://user:S3cr3t/pw?x@[::/cam",
        f"rtp://{IN_ADDRESSES}127.0.0.1/cam",
        "http://127.0.0.1:x/cam?user=me&password=S3cr3t",
    ],
)
@pytest.mark.parametrize("key", ["uri", "name", "trasport"])
def test_no_address_that_cannot_be_used_tells_its_password(uri: str, key: str) -> None:
    entry = {"uri": uri, key: uri if key == "uri" else f"x {uri}"}
    with pytest.raises(StreamerError) as caught:
        make_sources(make_settings(None, None, sources=[entry]).config)
    assert leaks("".join(traceback.format_exception(caught.value))) == []
