"""RTSP cameras (RFC 2326), read with FFmpeg."""

from __future__ import annotations

import errno
import math
import random
import socket
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from email.message import Message
from http.client import HTTPException, parse_headers
from typing import Literal

import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from streamer.config import SourceConfig
from streamer.errors import Retry, SourceError
from streamer.sources.address import with_credentials
from streamer.sources.base import Source
from streamer.sources.live import UnclearError, harmless, live_frames, live_stream
from streamer.sources.login import Login
from streamer.sources.peer import Address, Wire, connect, unreachable
from streamer.sources.video import LIMITS, open_video
from streamer.types import Frame

_QUICK = {"analyzeduration": "0", "probesize": "32", "fpsprobesize": "0"}  # opens in 50 ms instead of 1.6 s
_THOROUGH = {"analyzeduration": "1000000", "probesize": "500000"}  # for cameras that describe themselves late
_PROTOCOLS = "rtsp,rtp,tcp,tls,udp"
_MOST_REDIRECTS, _MOST_CHALLENGES = 5, 4
_PORTS = 32
_MOST_LINE, _MOST_BODY = 1024, 1 << 16  # bytes

Transport = Literal["tcp", "udp"]
_OTHER: dict[Transport, Transport] = {"tcp": "udp", "udp": "tcp"}

_OPEN_ERRORS: dict[type[Exception], tuple[str, Retry]] = {
    av.error.HTTPUnauthorizedError: ("wants digest authentication with SHA-256; set it to MD5, or to basic", "slow"),
    av.error.HTTPForbiddenError: ("this user may not watch; check the user's rights on the camera", "slow"),
    av.error.HTTPNotFoundError: ("the camera has no such stream; check the path in the address", "soon"),
    av.error.OSError: ("cannot be reached or read; check the host name, the path and the network", "soon"),
}


class RtspSource(Source):
    """A camera at rtsp:// or rtsps:// (H.264, H.265, MJPEG, ...); over UDP if it refuses TCP, and the reverse."""

    noisy = True

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        with_credentials(config)  # what is wrong with them is wrong for good
        self._transport: Transport = config.transport

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As in `Source`."""
        url, asked = self._checked_url(stop)
        with asked:  # some servers end what they have prepared for one connection at its end
            container, stream = self._open(url)
        try:
            yield from live_frames(self, container, stream, connection, stop, self._fallen_back())
        except av.error.FFmpegError as error:
            late = isinstance(error, av.error.ExitError | av.error.TimeoutError)
            firewall = " over UDP; does a firewall block it?" if self._transport == "udp" else ""
            what = f"no data for {self.config.read_s:g} s{firewall}" if late else f"connection lost ({error.strerror})"
            raise SourceError(f"{self.uri}: {what}; connecting again", "soon") from harmless(error)
        finally:
            container.close()
        if not stop.is_set():
            raise SourceError(f"{self.uri}: disconnected by the camera; connecting again", "soon")

    def _fallen_back(self) -> str:
        """What is told of a camera that is not read as it was asked for."""
        if self._transport == self.config.transport:
            return ""
        refused, used = self.config.transport, self._transport
        return f"refuses RTP over {refused.upper()}, so it is read over {used.upper()} (transport: {used})"

    def _open(self, url: str) -> tuple[InputContainer, VideoStream]:
        """Quickly; thoroughly if that was not enough; over the other transport if the camera refuses this one."""
        try:
            return self._connect(url, _QUICK)
        except UnclearError:
            pass
        try:
            return self._connect(url, _THOROUGH)
        except RefusedError as refused:
            self._transport = _OTHER[self._transport]
            try:
                return self._connect(url, _THOROUGH)
            except SourceError:
                self._transport = self.config.transport
                raise refused from None

    def _connect(self, url: str, probe: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        port = random.randrange(5000, 65000, _PORTS)
        options = {
            "rtsp_transport": self._transport,
            "min_port": str(port),  # each stream over UDP takes two, and an answer may name thousands of streams
            "max_port": str(port + _PORTS - 1),
            "max_streams": str(_PORTS // 2),
            "protocol_whitelist": _PROTOCOLS,
            "flags": "low_delay",
            "tls_verify": "0",  # cameras sign their certificates themselves; FFmpeg 9 would refuse them
            **LIMITS,
            **probe,
        }
        self.say("")  # each attempt has its own time
        started = time.monotonic()
        try:
            limits_s = self.config.open_s, self.config.read_s
            container = open_video(url, options, limits_s, format="rtsp", hwaccel=self.config.hwaccel)
        except av.error.FFmpegError as error:
            raise self._explained(error, time.monotonic() - started) from harmless(error)
        try:
            return container, live_stream(self, container)
        except SourceError:
            container.close()
            raise

    def _explained(self, error: av.error.FFmpegError, elapsed_s: float) -> SourceError:
        """Why the connection failed. A port that never answers is known by the time it took, not by the error."""
        if elapsed_s >= 0.9 * self.config.open_s:
            advice = "is the camera on, and are host and port right?"
            return SourceError(f"{self.uri}: no answer within {self.config.open_s:g} s; {advice}", "soon")
        if isinstance(error, av.error.InvalidDataError):
            return RefusedError(f"{self.uri}: answers, but not with video; check the path and the port", "soon")
        if error.errno == errno.EPROTONOSUPPORT:
            return RefusedError(f"{self.uri}: refuses RTP over TCP and over UDP; check the camera's settings", "slow")
        for kind, (text, retry) in _OPEN_ERRORS.items():
            if isinstance(error, kind):
                return SourceError(f"{self.uri}: {text}", retry)
        return SourceError(f"{self.uri}: cannot be opened ({error.strerror}); check the address", "soon")

    def _checked_url(self, stop: threading.Event) -> tuple[str, socket.socket]:
        """The camera's address, or where on its host it sends us; and the connection that told it.

        FFmpeg would follow to any host, password and all.
        """
        uri = with_credentials(self.config)
        first = address = Address.of(uri)
        login, peer = Login(uri), None
        deadline = time.monotonic() + self.config.open_s
        try:
            for _ in range(_MOST_REDIRECTS):
                connection, peer = connect(address, self.config.open_s, peer)
                with ExitStack() as closing:
                    closing.enter_context(connection)
                    status, headers = _ask(connection, address, login, deadline, stop)
                    if status == 401:
                        advice = "check them in the address"
                        raise SourceError(f"{self.uri}: wrong user name or password; {advice}", "slow")
                    if not 300 <= status < 400:
                        closing.pop_all()
                        return uri if address == first else address.with_user_of(uri), connection
                    address = address.redirected(headers.get("Location", ""), peer, self.uri)
        except (OSError, HTTPException, ValueError) as error:
            raise unreachable(error, self.uri, self.config.open_s) from error
        raise SourceError(f"{self.uri}: too many redirects; check the path in the address", "slow")


def _ask(
    connection: socket.socket, address: Address, login: Login, deadline: float, stop: threading.Event
) -> tuple[int, Message]:
    """The status and the header of the camera's answer to what FFmpeg will ask. ValueError where it is not RTSP."""
    answers = Wire(connection, math.inf, deadline, stop).makefile("rb")
    for method in ("OPTIONS", "DESCRIBE"):
        for attempt in range(_MOST_CHALLENGES):
            head = f"CSeq: {attempt + 1}\r\nAccept: application/sdp\r\n{login.header(method, address.url)}"
            connection.sendall(f"{method} {address.url} RTSP/1.0\r\n{head}\r\n".encode())
            protocol, status, *_ = (answers.readline(_MOST_LINE).decode("latin-1") + "  ").split(" ")
            if not protocol.startswith("RTSP/"):
                raise ValueError("no RTSP")
            headers = parse_headers(answers)
            length = int(headers.get("Content-Length", 0))
            if not 0 <= length <= _MOST_BODY:  # FFmpeg would take as much memory
                raise ValueError(f"a length of {length}")
            answers.read(length)
            challenges = headers.get_all("WWW-Authenticate", [])
            again = not attempt or "stale=true" in str(challenges).lower()  # on this connection: a nonce may be its own
            if status != "401" or not again or not login.challenged(challenges):
                break
        if status == "401" or status.startswith("3"):
            break
    return int(status), headers


class RefusedError(UnclearError):
    """The camera may not want RTP over this transport."""
