"""Where an MQTT broker is, who connects to it, and why it is not reached."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from streamer.bridges import tls
from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Broker:
    """mqtt[s]://[USER@]HOST[:PORT]; tls: for mqtts."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def shown(self) -> str:
        """The address, safe to show."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


class Refused(Exception):  # noqa: N818  (as ConnectionRefusedError is)
    """The broker cannot be used now; the message says why. slow: another try soon is of no use."""

    def __init__(self, why: str, *, slow: bool = False) -> None:
        super().__init__(why)
        self.slow = slow


def parse_broker(
    address: str,
    password: str | None = None,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Broker:
    """The broker at an address. certificate, key: of this end, where the broker asks for them. Raises ConfigError."""
    wrong = "--broker: is not mqtt://[USER@]HOST[:PORT], or mqtts:// with TLS"
    if not re.fullmatch(r"mqtts?://[^\s/?#]+/?", address):
        raise ConfigError(wrong)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{wrong}: its host or its port cannot be read") from None
    if not host:
        raise ConfigError(f"{wrong}: it names no host")
    if parts.password is not None:
        raise ConfigError(
            "--broker: holds a password, which other users of this machine can read there; give it with "
            "--password-file, or in ACTION_STREAMER_MQTT_PASSWORD"
        )
    user = unquote(parts.username) if parts.username else None
    if password is not None and user is None:
        raise ConfigError("--broker: a password is given, but no user; write mqtt://USER@HOST")
    secure = parts.scheme == "mqtts"
    if not secure and (ca_file or certificate or key):
        raise ConfigError("--broker: certificates are for TLS; write mqtts://, or leave them out")
    encrypted = _tls(ca_file, certificate, key) if secure else None
    return Broker(host, port or (8883 if secure else 1883), user, password, encrypted)


def why_not(error: Exception, *, encrypted: bool) -> Refused:
    """Why a connection could not be made."""
    if isinstance(error, ssl.SSLError) or (encrypted and isinstance(error, ConnectionResetError)):
        return Refused(tls.why(error, "mqtt://"), slow=True)
    if isinstance(error, TimeoutError):
        return Refused("no answer in time; is the address right?")
    if isinstance(error, ConnectionRefusedError):
        return Refused("nobody listens there; is the broker running?")
    if isinstance(error, socket.gaierror | UnicodeError):
        return Refused("there is no such host; is the address right?")
    return Refused(f"cannot be reached: {getattr(error, 'strerror', None) or 'the connection was closed'}")


def refusal(code: int, said: str, user: str | None) -> Refused:
    """What the code of a CONNACK means, of MQTT 3.1.1 (table 3.1) as paho tells it: in those of MQTT 5."""
    if code in (134, 135):
        who = f"user {user!r} or its password is wrong" if user else "it wants a user and a password"
        return Refused(f"it lets nobody in: {who}, or the user may not connect", slow=True)
    if code == 136:
        return Refused("it cannot serve now")
    return Refused(f"it refuses: {said}", slow=True)


class _Closing(ssl.SSLSocket):
    """Closes itself when it cannot agree on a cipher or trust the other end; paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (OSError, ValueError):
            self.close()
            raise


def _tls(ca_file: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context = tls.trusting(ca_file)
    context.sslsocket_class = _Closing
    if key and not certificate:
        raise ConfigError("--client-key belongs to --client-cert; give both")
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise ConfigError(f"--client-cert {certificate}: cannot be used: {tls.unreadable(error)}") from None
    return context
