"""Addresses that users write. Those of ZeroMQ are checked before it sees them: it takes some wrong ones without a word.

It would bind some other port for tcp://127.0.0.1:99999, delete a file that stands where an ipc:// socket shall be, and
take an ipc:// path away from the program that uses it.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import zmq

from streamer.config import Access
from streamer.errors import ConfigError

DOMAIN = b"streamer"
"""The ZAP domain of every socket. One that has a domain refuses ZMTP 1.0 and 2.0, in which an HTTP request is valid."""

_log = logging.getLogger(__name__)

_TCP = re.compile(r"tcp://(?P<host>\[[^\[\]\s]+\]|[^:\[\]/\s\0]+):(?P<port>\d+|\*)")
_IPC = re.compile(r"ipc://(?P<path>[^\0]+)")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@\0]+):(?P<port>\d{1,5})")
_MODES: dict[Access, int] = {"user": 0o600, "group": 0o660, "everyone": 0o666}  # connecting needs the right to write
_PROBE_S = 2.0
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::\d{1,5})?")
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f\x03"  # how a greeting of ZMTP 3.0 begins
_NAMED = 32  # bytes of a greeting up to the end of its mechanism
_FORMS = "use tcp://127.0.0.1:5557 or ipc:///run/streamer.sock"


def bind(sock: zmq.Socket[bytes], address: str, key: str, access: Access = "user") -> str:
    """Bind a socket whose options are set; returns the address bound, with the port that was found for `*` or 0.

    key: the configuration's key of the address, for messages. access: who may connect to an ipc address.
    Raises ConfigError for an address that is malformed, in use, or not this machine's.
    Logs a warning for an address that other machines can reach in plain text.
    """
    host = _checked(sock, address, bindable=True)
    if not host:
        _check_path(address)
    before = os.umask(0o777 & ~_MODES[access])  # the socket has its mode from the start
    try:
        sock.bind(address)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot bind {address}: {advice(error, key)}") from error
    finally:
        os.umask(before)
    bound = sock.getsockopt_string(zmq.LAST_ENDPOINT)
    if host and is_public(host) and not sock.getsockopt(zmq.CURVE_SERVER):
        _log.warning(
            "anyone who can reach this machine can use %s (%s); bind 127.0.0.1, or make keys with `streamer keygen` "
            "and set publish.curve",
            bound,
            key,
        )
    return bound


def connect(sock: zmq.Socket[bytes], address: str) -> None:
    """Connect a socket, now or whenever the other side appears. Raises ConfigError for a malformed address."""
    _checked(sock, address, bindable=False)
    try:
        sock.connect(address)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot connect to {address!r}: {error.strerror}; {_FORMS}") from error


def unreachable(address: str) -> str:
    """Why nobody can be reached at a well-formed address; "" if somebody listens there."""
    try:
        with _connected(address):
            return ""
    except UnicodeError:  # such as a..b, which cannot be asked for
        return "there is no such host"
    except FileNotFoundError:
        return "there is no such socket; nobody has bound it yet"
    except ConnectionRefusedError:
        return "nobody listens there"
    except PermissionError:
        return (
            "permission denied: your user may not write to this socket, or not enter its folder; the run decides who "
            "may (publish.ipc_access: group or everyone), its folder must let them in, too"
        )
    except OSError as error:
        return error.strerror or "it does not answer"


def is_taken(address: str) -> bool:
    """Whether a program listens at a TCP port, tcp://HOST:PORT or HOST:PORT; never at an address that is malformed."""
    match = _HOST_PORT.fullmatch(address.removeprefix("tcp://"))
    if match is None or not 0 < int(match["port"]) < 65536:
        return False
    return not unreachable(f"tcp://{match[0]}")


def next_free(address: str) -> str:
    """An address of `is_taken` with the next port that nobody listens at."""
    place, _, port = address.rpartition(":")
    return next((f"{place}:{n}" for n in range(int(port) + 1, 65536) if not is_taken(f"{place}:{n}")), f"{place}:0")


def mechanism(address: str) -> str:
    """How who listens at a well-formed address wants to be spoken to: NULL (in plain text), CURVE (encrypted), or ""
    for what does not greet as ZeroMQ does.
    """
    greeting, ends = b"", time.monotonic() + _PROBE_S
    with suppress(OSError), _connected(address) as probe:
        probe.sendall(_SIGNATURE)
        while len(greeting) < _NAMED and (part := probe.recv(_NAMED - len(greeting))):
            greeting += part
            probe.settimeout(max(0.01, ends - time.monotonic()))
    return greeting[12:].rstrip(b"\0").decode("ascii", "replace") if greeting[:1] == b"\xff" else ""


def _connected(address: str) -> socket.socket:
    """A bare connection to a tcp or ipc address."""
    if match := _TCP.fullmatch(address):
        return socket.create_connection((match["host"].strip("[]"), int(match["port"])), _PROBE_S)
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.settimeout(_PROBE_S)
        probe.connect(address.removeprefix("ipc://"))
    except BaseException:
        probe.close()
        raise
    return probe


def listen(address: str, key: str, example: str) -> socket.socket:
    """A listening TCP socket at HOST:PORT; port 0 is any free one.

    key and example: the configuration's key of the address and a value for it, for messages. Raises ConfigError for an
    address that is malformed, in use, or not this machine's.
    """
    match = _HOST_PORT.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(f"{key}: {address!r} is not HOST:PORT; use {example}")
    host = match["host"].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(match["port"])), family=family)
    except OSError as error:
        raise ConfigError(f"{key}: cannot listen on {address}: {advice(error, key)}") from error


def _checked(sock: zmq.Socket[bytes], address: str, bindable: bool) -> str:
    """Check the form of an address and return its host, "" for ipc."""
    if _IPC.fullmatch(address):
        return ""
    match = _TCP.fullmatch(address)
    if match is None:
        raise ConfigError(f"{address!r} is not an address: {_FORMS}")
    host, port = match["host"], match["port"]
    if port == "*" or int(port) == 0:
        if not bindable:
            raise ConfigError(f"{address!r} names no port to connect to; use the port that the publisher is bound to")
    elif int(port) > 65535:
        raise ConfigError(f"{address!r}: a port is at most 65535")
    if host.startswith("["):
        sock.ipv6 = True
    return host


def _check_path(address: str) -> None:
    """Refuse an ipc path that is in use or not a socket; one that a dead program left behind may be taken over."""
    path = Path(address.removeprefix("ipc://"))
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigError(f"cannot bind {address}: {path} exists and is not a socket; choose another path")
    if not unreachable(address):
        raise ConfigError(f"cannot bind {address}: another program uses it; stop that one or choose another path")


def is_public(host: str) -> bool:
    """Whether other machines can reach what listens on this host: an IP address or a name."""
    if host in ("localhost", "lo"):
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # `*` or the name of a network interface
        return True


def names_this_machine(host: str) -> bool:
    """Whether a request's `Host` is a loopback address or localhost: names that no site can have resolve to here."""
    match = _HOST.fullmatch(host)
    return match is not None and not is_public(match["name"].lower())


def advice(error: zmq.ZMQError | OSError, key: str) -> str:
    """Why an address cannot be bound, and what to do; `key` is the configuration's key of the address."""
    if error.errno == errno.EADDRINUSE:
        return f"another program uses it; stop that one (another `streamer run`?) or set {key} to another port or null"
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return f"this machine has no such address; set {key} to one that it has, like 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"ports below 1024 need privileges; set {key} to one above"
    if error.errno == socket.EAI_NONAME:
        return f"there is no such host; set {key} to an address of this machine, like 127.0.0.1"
    return f"{error.strerror}; set {key} to another address"
