"""CURVE, ZeroMQ's encryption and authentication: key files, who connects, and who is let in.

A pair of keys is two files in ZeroMQ's certificate format, which other bindings read too: NAME.key (public, to give
away) and NAME.key_secret (mode 0600, to keep). A client has the server's public key and a pair of its own, and the
server has the client's public key in a folder. All other clients get nothing.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils import z85

from streamer.config import CurveConfig
from streamer.errors import ConfigError

_RELOAD_S = 1.0  # keys added to the folder, or taken out of it, count after this time at the latest
_QUESTIONS_AT_ONCE = 100  # the rest waits
_KEY_BYTES = 32

_log = logging.getLogger(__name__)


def write_keys(name: Path) -> tuple[Path, Path]:
    """Make a new pair of keys: NAME.key and NAME.key_secret. Raises ConfigError, also for files that exist already."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    public_file, secret_file = Path(f"{name}.key"), Path(f"{name}.key_secret")
    text = f'curve\n    public-key = "{public}"\n'
    files = (
        (secret_file, 0o600, f'# Both keys: keep this file to yourself.\n{text}    secret-key = "{secret}"\n'),
        (public_file, 0o644, f"# The public key: give it to the other side.\n{text}"),
    )
    made: list[Path] = []
    try:
        for path, mode, content in files:
            path.touch(mode, exist_ok=False)
            made.append(path)
            path.write_text(content, encoding="ascii")
    except OSError as error:
        for half in made:
            half.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise ConfigError(f"{path} exists already; choose another name, or delete it if nobody uses it") from error
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return public_file, secret_file


def read_public(path: Path) -> bytes:
    """The public key of a key file, 32 bytes. Raises ConfigError."""
    return _read(path)[0]


def read_secret(path: Path) -> bytes:
    """The secret key of a key file, 32 bytes. Raises ConfigError, also when others may read the file.

    A group may, where the file is root's; and the mode of what is mounted read-only is not ours to change.
    """
    secret = _read(path)[1]
    if not secret:
        raise ConfigError(f"{path}: holds no secret key; give the file that ends in .key_secret")
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    allowed = 0o740 if status.st_uid == 0 else 0o700  # root's files are of a group that the administrator chose
    if mode & ~allowed & 0o777 and not os.statvfs(path).f_flag & os.ST_RDONLY:
        raise ConfigError(
            f"{path}: holds a secret key and others may read it (mode {mode:o}); run chmod 600 {path}, or mount it "
            "read-only, as secrets of containers are"
        )
    return secret


def read_folder(folder: Path) -> tuple[frozenset[bytes], list[str]]:
    """The public keys of all files NAME.key in a folder, and what is wrong with those that cannot be read."""
    keys, problems = set(), []
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".key")
    except OSError as error:
        return frozenset(), [f"{folder}: cannot be read: {error.strerror}"]
    for path in files:
        try:
            keys.add(read_public(path))
        except ConfigError as error:
            problems.append(str(error))
    return frozenset(keys), problems


def _read(path: Path) -> tuple[bytes, bytes]:
    """The public and the secret key of a file; b"" for a secret key that is not there."""
    try:
        public, secret = zmq.auth.load_certificate(path)
        keys = tuple(z85.decode(key) if key else b"" for key in (public, secret))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or 'there is no such file'}") from error
    except (ValueError, KeyError, IndexError, struct.error):
        keys = (b"", b"")
    if len(keys[0]) != _KEY_BYTES or len(keys[1]) not in (0, _KEY_BYTES):
        raise ConfigError(f"{path}: is not a key file; `streamer keygen NAME` makes them")
    return keys[0], keys[1]


@dataclass(frozen=True, slots=True)
class Curve:
    """The client's side. server_key: the server's public key file; key: the file of its own secret key."""

    server_key: str | Path
    key: str | Path

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys of a socket that is not yet connected. Raises ConfigError."""
        secret = read_secret(Path(self.key))
        socket.curve_serverkey = read_public(Path(self.server_key))
        socket.curve_secretkey = secret
        socket.curve_publickey = z85.decode(zmq.curve_public(z85.encode(secret)))


class Gate:
    """The server's side: encrypts a socket that is not yet bound, and lets clients in whose keys are in the folder.

    ZeroMQ asks about every connection over an inproc socket, `questions`, once for each context. (pyzmq's own
    authenticators answer in a thread or an event loop of theirs.) After the socket is bound everything belongs to one
    thread. key: the configuration's key, for messages; warn: is told who was turned away. Raises ConfigError.
    """

    def __init__(self, socket: zmq.Socket[bytes], config: CurveConfig, key: str, warn: Callable[[str], None]) -> None:
        self._folder = config.authorized_keys_dir
        self._warn = warn
        secret = read_secret(config.secret_key_file)
        self._keys, problems = read_folder(self._folder)
        if problems:
            raise ConfigError(f"{key}.authorized_keys_dir: {problems[0]}")
        if not self._keys:
            _log.warning("%s holds no keys, so nobody is let in; put the clients' .key files there", self._folder)
        self._read_at = time.monotonic()
        socket.curve_secretkey = secret
        socket.curve_server = True
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # who cannot be asked about is not let in
        self.questions = socket.context.socket(zmq.REP)
        self.questions.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        """Answer who has asked to come in. Returns at once."""
        for _ in range(_QUESTIONS_AT_ONCE):
            try:
                _version, number, _domain, address, *_, key = self.questions.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            known = key in self._current_keys()
            # 300 leaves the client waiting and trying again; after 400 it would not, even if its key is added later
            self.questions.send_multipart((b"1.0", number, b"200" if known else b"300", b"", b"", b""))
            if not known:
                self._warn(
                    f"turned away a client at {address.decode() or 'an ipc address'}: its public key "
                    f"{z85.encode(key).decode()} is not in {self._folder}"
                )

    def failed(self, event: Mapping[str, Any]) -> None:
        """Tell of a handshake that failed before anybody was asked."""
        why = _FAILURES.get(int(event["value"]), "it broke off the handshake")
        self._warn(f"turned away a client of {event['endpoint'].decode()}: {why}")

    def _current_keys(self) -> frozenset[bytes]:
        now = time.monotonic()
        if now - self._read_at > _RELOAD_S:
            self._read_at = now
            self._keys, problems = read_folder(self._folder)
            for problem in problems:
                self._warn(f"a key that does not count: {problem}")
        return self._keys


_FAILURES: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "it does not encrypt; give it keys (--server-key, --key)",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "it has another server's key",
}
