"""A real MQTT broker, Mosquitto, and a client that listens there as Home Assistant would."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.streamer.labels.peers import moments
from tools.peers.program import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

needs_mosquitto = pytest.mark.skipif(not MOSQUITTO, reason="mosquitto is not installed; `make test` installs it")


class Mosquitto:
    """A broker that keeps nothing on disk. lines: more of its configuration."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self._file = folder / f"mosquitto-{self.port}.conf"
        access = () if any(line.startswith("password_file") for line in lines) else ("allow_anonymous true",)
        told = [f"listener {self.port} 127.0.0.1", "persistence false", "user root", "max_queued_messages 0"]
        self._file.write_text("\n".join([*told, *access, *lines, ""]), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin, and wait until it listens."""
        assert MOSQUITTO
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in moments():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return

    def kill(self) -> None:
        """Be gone without a word; what it kept is lost."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Be there, and say nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)


class Listener:
    """What a program at the broker knows: `kept`, the newest payload of each topic; `came`, the events."""

    def __init__(self, broker: Mosquitto, *topics: str) -> None:
        self.kept: dict[str, str] = {}
        self.came: list[tuple[str, dict[str, Any]]] = []
        self._topics = topics or ("#",)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = self._begin
        self._client.on_message = self._hear
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def sensors(self, prefix: str = "action-streamer") -> dict[str, str]:
        """What the sensors of labels say, by stream/name."""
        said = {}
        for topic, payload in list(self.kept.items()):
            match topic.removeprefix(f"{prefix}/").split("/"):
                case [stream, "label", name]:
                    said[f"{stream}/{name}"] = payload
        return said

    def found(self) -> dict[str, dict[str, Any]]:
        """The configurations that Home Assistant finds, by topic."""
        known = list(self.kept.items())
        return {topic: json.loads(payload) for topic, payload in known if topic.endswith("/config") and payload}

    def tell(self, topic: str, payload: str, retain: bool = False) -> None:
        """Publish."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(30)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _begin(self, client: paho.Client, _data: object, _flags: object, code: Any, _properties: object) -> None:
        assert not code.is_failure
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        client.subscribe([(topic, options) for topic in self._topics])

    def _hear(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        text = bytes(message.payload).decode()
        if message.retain:
            self.kept[message.topic] = text
        elif message.topic.endswith("/event"):
            self.came.append((message.topic, json.loads(text)))
