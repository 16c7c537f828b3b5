from __future__ import annotations

from pathlib import Path

import pytest

from streamer.bridges.broker import parse_broker
from streamer.bridges.secret import read_secret
from streamer.errors import ConfigError


def test_an_address_has_a_user_a_host_and_a_port() -> None:
    broker = parse_broker("mqtt://c%40m@broker.example", "pw")
    assert (broker.host, broker.port, broker.user, broker.password) == ("broker.example", 1883, "c@m", "pw")
    assert parse_broker("mqtts://[::1]/").shown == "mqtts://[::1]:8883"
    assert "pw" not in repr(broker)


@pytest.mark.parametrize(
    "address",
    ["", "broker", "tcp://x", "mqtt://", "mqtt://:1883", "mqtt://a:99999", "mqtt://[::1", "mqtt://a/b", "mqtt://a b"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--broker: is not mqtt://"):
        parse_broker(address)


def test_a_password_in_the_address_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(ConfigError, match="--password-file, or in ACTION_STREAMER_MQTT_PASSWORD") as error:
        parse_broker("mqtt://user:S3cr3t@broker")
    assert "S3cr3t" not in str(error.value)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    for arguments, told in (
        ({"address": "mqtt://broker", "password": "pw"}, "no user"),
        ({"address": "mqtt://broker", "ca_file": tmp_path}, "certificates are for TLS"),
        ({"address": "mqtts://broker", "ca_file": tmp_path / "none"}, "No such file"),
        ({"address": "mqtts://broker", "ca_file": Path(__file__)}, "no certificate in PEM"),
        ({"address": "mqtts://broker", "key": Path(__file__)}, "belongs to --client-cert"),
        ({"address": "mqtts://broker", "certificate": Path(__file__)}, "no certificate in PEM"),
    ):
        with pytest.raises(ConfigError, match=told):
            parse_broker(**arguments)


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"from a file\r\n")
    environment = {"SECRET": "from the environment"}
    assert read_secret(file, "SECRET", "--file", environment) == "from a file"
    assert read_secret(None, "SECRET", "--file", environment) == "from the environment"
    assert read_secret(None, "OTHER", "--file", environment) is None
    for text in ("", "two\nlines\n"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="in one line"):
            read_secret(file, "SECRET", "--file")
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(tmp_path / "none", "SECRET", "--file")
