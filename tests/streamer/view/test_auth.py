"""The address of a page, before anybody looks at it."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from streamer.errors import ConfigError
from streamer.view.auth import claim

from .conftest import Serve


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1", "is not HOST:PORT"),
        ("http://127.0.0.1:80", "is not HOST:PORT"),
        ("127.0.0.1:99999", "is not HOST:PORT"),
        ("no.such.host.invalid:8080", "there is no such host"),
        ("192.0.2.1:8080", "this machine has no such address"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_with_the_remedy(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        claim(address)


def test_an_address_in_use_is_told(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="another program uses it"):
        claim(urlsplit(serve().url).netloc)


def test_a_public_address_gets_a_token_and_a_short_one_is_refused() -> None:
    for address, needs_one in (("0.0.0.0:0", True), ("127.0.0.1:0", False)):
        place = claim(address)
        place.socket.close()
        assert len(place.new_token or "") >= 20 if needs_one else place.new_token is None
    with pytest.raises(ConfigError, match="at least 8 characters") as error:
        claim("127.0.0.1:0", "secret1")
    assert "secret1" not in str(error.value)


def test_without_the_extra_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(ConfigError, match=r"the page needs websockets: pip install 'action-streamer\[view\]'"):
        claim("127.0.0.1:0")


def test_the_command_line_does_without_the_extra() -> None:
    code = "import sys, streamer.commands.run, streamer.view.process; print({'websockets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
