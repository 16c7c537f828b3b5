"""`streamer discover`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from engines.errors import install
from streamer.config import SourceConfig
from streamer.discovery.found import NetworkCamera
from streamer.discovery.listing import listing
from streamer.discovery.webcams import webcams
from streamer.errors import ConfigError, SourceError
from streamer.sources.address import check_address, read_password
from streamer.text import printable, shown_address

EXAMPLES = """\b
Examples:
  streamer discover                                    # webcams, and what answers on the network
  streamer discover --user admin --password-file secret
  streamer discover 192.0.2.10 http://192.0.2.11:8000/onvif/device_service
"""
_PASSWORD = "ONVIF_PASSWORD"
_SERVICE = "/onvif/device_service"  # where ONVIF's core specification, 5.4.2, has it

log = logging.getLogger(__name__)


def discover(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CAMERA...",
            help="Network cameras to ask, HOST, HOST:PORT or http://HOST/PATH. [default: webcams, and all that answer]",
            show_default=False,
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="A user of the network cameras.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Holds the user's password, in one line; or set {_PASSWORD}."),
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0.5, max=60, help="How long to wait for answers, seconds.")] = 3.0,
) -> None:
    """Find webcams, and network cameras that speak ONVIF; print them as `sources` of a configuration.

    Of each network camera the smallest stream that is large enough is a source, and its other streams are comments.
    Passwords are not printed. Needs pip install 'action-streamer[discover]' for network cameras.
    """
    login = _login(user, password_file)
    local = [] if addresses else webcams()
    cameras = list(_network([_service(address) for address in addresses or ()], login, wait_s))
    if not local and not cameras:
        raise SourceError("no camera was found: is it on and in this network, and is ONVIF switched on in it?")
    for line in listing(local, cameras, user, password_file):
        typer.echo(line)


def _login(user: str | None, file: Path | None) -> tuple[str, str] | None:
    """User and password; None without both."""
    password = read_password(file, "--password-file") if file else os.environ.get(_PASSWORD)
    if user is None:
        if file:
            raise ConfigError("--password-file: whose password is it? give --user, too")
        return None
    if not password:
        raise ConfigError(f"--user {printable(user)}: has no password; give --password-file FILE, or set {_PASSWORD}")
    if ":" in user:
        raise ConfigError("--user: a user's name has no colon in it; the password goes into --password-file")
    return user, password


def _service(address: str) -> str:
    """The address of a camera's device service. ConfigError, SourceError."""
    url = address if "://" in address else f"http://{address}{_SERVICE}"
    if urlsplit(url).scheme not in ("http", "https") or "@" in url:
        advice = "give HOST, HOST:PORT or http://HOST/PATH, and the user by --user"
        raise ConfigError(f"discover {shown_address(address)}: a camera is asked over HTTP; {advice}")
    check_address(SourceConfig(uri=url))
    return url


def _network(urls: Sequence[str], login: tuple[str, str] | None, wait_s: float) -> Iterator[NetworkCamera]:
    """The network cameras that tell their streams: those at the addresses, or all that answer."""
    if not find_spec("onvif"):
        missing = f"network cameras are asked by a library that is not installed; {install('discover')}"
        if urls:
            raise ConfigError(missing)
        log.warning(missing)
        return
    from streamer.discovery import onvif, probe

    cameras = [NetworkCamera(url) for url in urls] or probe.probe(wait_s)
    for camera, answer in zip(cameras, onvif.ask_all([camera.url for camera in cameras], login), strict=True):
        if isinstance(answer, SourceError):
            log.warning("%s", answer)
        elif answer:
            yield replace(camera, streams=tuple(answer))
        else:
            log.warning("%s: is a camera without streams", shown_address(camera.url))
