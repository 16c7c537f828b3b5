"""Events to a web address: a POST each, signed if there is a secret, tried again while the receiver is away.

A thread of its own sends, one event after another, so their order is kept. What waits is bounded.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import re
import socket
import ssl
import threading
from base64 import b64encode
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from streamer.bridges import tls
from streamer.bridges.feed import Choice, EventBridge
from streamer.bridges.template import Body
from streamer.bridges.trouble import Trouble
from streamer.errors import ConfigError
from streamer.labels.messages import EventMessage

SIGNATURE = "X-Hub-Signature-256"
"""The header of the signature, as GitHub's webhooks have it: `sha256=`, the HMAC-SHA256 of the body in hexadecimal."""
LONGEST_PAUSE_S = 30.0
CLOSE_S = 5.0  # for what waits when the bridge ends
_LONGEST_ID = 500  # characters
_AGAIN = frozenset({408, 425, 429, *range(500, 600)})  # answers after which it is worth another try

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A web address. `login`: the header Authorization, "" without user."""

    host: str
    port: int
    path: str
    login: str
    tls: ssl.SSLContext | None

    @property
    def shown(self) -> str:
        """The address without its path, which is a secret of many webhooks."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/..."


def parse_target(url: str, ca_file: Path | None = None) -> Target:
    """The target of http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH. Raises ConfigError, which repeats nothing of it."""
    wrong = "the webhook's address is not http://HOST/PATH or https://HOST/PATH"
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise ConfigError(f"{wrong}; blanks and letters beyond ASCII are written as %20, %C3%BC, ...")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{wrong}: its host or its port cannot be read") from None
    if not parts.hostname:
        raise ConfigError(f"{wrong}: it names no host")
    login = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {b64encode(user.encode()).decode()}"
    secure = parts.scheme == "https"
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    return Target(
        parts.hostname, port or (443 if secure else 80), path, login, tls.trusting(ca_file) if secure else None
    )


class Webhook(EventBridge):
    """The bridge to a web address.

    secret     signs the bodies
    tries      how often an event is sent at most
    timeout_s  for a whole exchange
    most       events that wait at most
    pause_s    before the second try; doubled each time
    """

    def __init__(
        self,
        target: Target,
        body: Body,
        choice: Choice,
        secret: bytes | None = None,
        tries: int = 5,
        timeout_s: float = 5.0,
        most: int = 100,
        pause_s: float = 1.0,
    ) -> None:
        super().__init__(choice, most)
        self._target, self._body, self._secret = target, body, secret
        self._tries, self._timeout_s, self._pause_s = tries, timeout_s, pause_s
        self._trouble = Trouble(f"webhook {target.shown}")
        self._agent = f"action-streamer/{metadata.version('action-streamer')}"
        self._sent = self._failed = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def counts(self) -> dict[str, int]:
        """What became of the events."""
        return {
            "events": self._received,
            "sent": self._sent,
            "given up": self._failed,
            "dropped": self._outbox.dropped,
        }

    def close(self) -> None:
        """Send what waits, each once more, for some seconds; the rest is dropped."""
        self._ending.set()
        self._outbox.close()
        self._thread.join(CLOSE_S)
        self._outbox.clear()
        self._thread.join(self._timeout_s)

    def _run(self) -> None:
        while event := self._outbox.take():
            try:
                delivered = self._deliver(event)
            except Exception:  # of an event that nobody has foreseen; the next ones may be well
                _log.exception("an event could not be sent")
                delivered = False
            self._sent += delivered
            self._failed += not delivered

    def _deliver(self, event: EventMessage) -> bool:
        """Whether the receiver has taken the event."""
        body = self._body.of(event)
        headers = {
            "Content-Type": self._body.content_type,
            "User-Agent": self._agent,
            "X-Event-Id": quote(f"{event.session}/{event.id}/{event.type}"[:_LONGEST_ID]),  # the same when sent again
        }
        if self._secret:
            headers[SIGNATURE] = f"sha256={hmac.new(self._secret, body, hashlib.sha256).hexdigest()}"
        if self._target.login:
            headers["Authorization"] = self._target.login
        pause_s = self._pause_s
        for left in reversed(range(self._tries)):
            try:
                status, wait_s = _post(self._target, body, headers, self._timeout_s)
            except (OSError, http.client.HTTPException) as error:
                status, wait_s, why = 0, 0.0, _why(error)
            else:
                if 200 <= status < 300:
                    self._trouble.over("takes events again")
                    return True
                why = _refusal(status)
            self._trouble.tell(why)
            if not left or (status and status not in _AGAIN) or self._ending.wait(max(pause_s, wait_s)):
                break
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return False


def _post(target: Target, body: bytes, headers: dict[str, str], timeout_s: float) -> tuple[int, float]:
    """Send a request: the status of the answer, and how long it asks to wait, seconds."""
    if target.tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout_s, context=target.tls
        )
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    late = threading.Event()

    def cut() -> None:  # who sends a byte now and then keeps each of them within the time
        late.set()
        if connection.sock:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(timeout_s, cut)
    watch.daemon = True
    watch.start()
    try:
        with closing(connection):
            connection.request("POST", target.path, body, headers)
            with closing(connection.getresponse()) as answer:
                if late.is_set():  # the rest of its head was cut off
                    raise TimeoutError
                asked = answer.getheader("Retry-After") or ""
                return answer.status, min(float(asked), LONGEST_PAUSE_S) if re.fullmatch(r"\d{1,9}", asked) else 0.0
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        watch.cancel()


def _why(error: Exception) -> str:
    """Why there was no answer."""
    if isinstance(error, ssl.SSLError):
        return tls.why(error, "http://")
    if isinstance(error, TimeoutError):
        return "no answer in time; it is tried again"
    if isinstance(error, http.client.HTTPException):
        return "what it answers is no HTTP; is the port right?"
    return f"cannot be reached: {getattr(error, 'strerror', None) or 'the connection was closed'}; it is tried again"


def _refusal(status: int) -> str:
    """What a status that is no success means."""
    if 300 <= status < 400:
        return f"it answers {status}, a redirection, which is not followed; give the address that it leads to"
    if status in (401, 403):
        return f"it answers {status}, not allowed; are user, password and secret right?"
    if status in _AGAIN:
        return f"it answers {status}; it is tried again"
    return f"it answers {status}, so the event is given up; is the address right, and what the body holds?"
