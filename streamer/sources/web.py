"""HTTP cameras: MJPEG, single pictures that are asked for again and again, and live MPEG-TS, FLV and the like.

Python speaks HTTP here, not FFmpeg, which would go wherever an answer sends it: to other hosts by redirects, with the
cookies of the first, and through playlists to any address. FFmpeg gets bytes, and only formats that refer to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from http.client import HTTPException
from typing import Any

import av
import av.error

from streamer.config import SourceConfig
from streamer.errors import Retry, SourceError
from streamer.sources.address import with_credentials
from streamer.sources.base import Source
from streamer.sources.clock import CaptureClock, UtcClock
from streamer.sources.conversation import Answer, Conversation
from streamer.sources.jpegs import MOST_BYTES, Jpegs
from streamer.sources.live import harmless, live_frames, live_stream
from streamer.sources.video import LIMITS, Damage, open_video, picture
from streamer.types import Frame, Timeline

_BEHIND_S = 1.0  # pictures that wait for longer are left out: each stands alone
_LEFT_OUT = "pictures that waited for over 1 s are left out: this machine is too slow for them, or was halted"
_USUAL_HZ = 10.0  # how often single pictures are asked for, if nobody says
_FORMATS = "mpegts,mpeg,flv,mov,matroska,h264,hevc"
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "protocol_whitelist": "none",
    "flags": "low_delay",
    "analyzeduration": "1000000",
    "probesize": "500000",
    **LIMITS,
}
_STATUS: dict[int, tuple[str, Retry]] = {
    401: ("wrong user name or password; check them in the address", "slow"),
    403: ("this user may not watch; check the user's rights on the camera", "slow"),
    404: ("the camera has no such stream; check the path in the address", "soon"),
}


class WebSource(Source):
    """A camera at http:// or https://."""

    noisy = True

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        with_credentials(config)  # what is wrong with them is wrong for good
        self._connected = False  # it was a camera before
        self._usual_note = "its JPEGs are decoded in software (hwaccel: cuda)" if config.hwaccel == "cuda" else ""

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As in `Source`."""
        try:
            yield from self._frames(connection, stop)
        except SourceError:
            if not stop.is_set():  # an answer that was broken off because of it is no fault of the camera
                raise
        except TimeoutError as error:
            raise SourceError(f"{self.uri}: no data for {self.config.read_s:g} s; connecting again", "soon") from error
        except (OSError, HTTPException, ValueError, av.error.FFmpegError) as error:
            if stop.is_set():
                return
            what = getattr(error, "strerror", None) or "it sends what is no HTTP or no picture"
            raise SourceError(f"{self.uri}: connection lost ({what}); connecting again", "soon") from harmless(error)
        if not stop.is_set():
            raise SourceError(f"{self.uri}: connection lost (ended by the camera); connecting again", "soon")

    def _frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        conversation = Conversation(self.config, self.uri, stop)
        try:
            answer = conversation.get()
            if self._is_jpeg(answer):
                yield from self._pictures(self._jpegs(conversation, answer, stop), connection)
            else:
                data = _Bounded(answer)
                with self._container(answer, data) as container:
                    self._connected = True
                    video = live_stream(self, container)
                    yield from live_frames(self, container, video, connection, stop, came=data.came)
        finally:
            conversation.close()

    def _is_jpeg(self, answer: Answer) -> bool:
        """Whether pictures come; SourceError if what comes is of no use."""
        if answer.status != 200:
            text, retry = _STATUS.get(answer.status, (f"answers with error {answer.status}; check the address", "soon"))
            raise SourceError(f"{self.uri}: {text}", retry)
        head = answer.peek()
        start = head.lstrip()
        if answer.type.startswith("multipart/") or "jpeg" in answer.type or start.startswith((b"--", b"\xff\xd8\xff")):
            return True
        final: Retry = "slow" if self._connected else "never"  # one that was a camera may be one again
        if "mpegurl" in answer.type or start.startswith(b"#EXTM3U"):
            advice = "HLS comes in bursts, many seconds late; give the camera's RTSP or MJPEG address"
            raise SourceError(f"{self.uri}: an HLS playlist, which is not read: {advice}", final)
        if answer.type.startswith("image/"):
            raise SourceError(
                f"{self.uri}: its pictures are no JPEGs; set the camera to JPEG, or give another address", final
            )
        if answer.type == "text/html" or start[:1] in b"<{#" or (start.isascii() and b"\0" not in start):
            raise SourceError(f"{self.uri}: answers, but not with video; check the path and the port", "soon")
        if answer.length is not None:
            raise SourceError(
                f"{self.uri}: a recording, not a live stream; download it and give the file's path", final
            )
        return False

    def _container(self, answer: Answer, data: _Bounded) -> Any:
        answer.wire.deadline = time.monotonic() + self.config.open_s
        try:
            container = open_video(data, _OPTIONS, hwaccel=self.config.hwaccel)
        except av.error.FFmpegError as error:
            advice = "check the path and the port"
            raise SourceError(f"{self.uri}: answers, but not with video; {advice}", "soon") from harmless(error)
        answer.wire.deadline = float("inf")
        return container

    def _jpegs(
        self, conversation: Conversation, answer: Answer, stop: threading.Event
    ) -> Iterator[tuple[bytes, float]]:
        """Every picture with the time when it came, in seconds by the monotonic clock, at the latest."""
        jpegs, wire, count, jpeg = Jpegs(), answer.wire, 0, b""
        patience_s = self.config.open_s + self.config.read_s
        wire.deadline = time.monotonic() + patience_s
        while data := answer.read():
            for jpeg in jpegs.feed(data):
                wire.deadline = time.monotonic() + patience_s
                count += 1
                if count > 1 and time.monotonic() - wire.empty_s > _BEHIND_S:
                    self.say(_LEFT_OUT)
                    continue
                if self.note != self._usual_note:
                    self.say(self._usual_note)
                yield jpeg, wire.empty_s
        if count == 1 and not answer.type.startswith("multipart/") and not stop.is_set():
            yield from self._snapshots(conversation, answer, jpeg, stop)

    def _snapshots(
        self, conversation: Conversation, answer: Answer, last: bytes, stop: threading.Event
    ) -> Iterator[tuple[bytes, float]]:
        """A picture that is not the last one, again and again, as often as the model wants one."""
        rate_hz = self.config.fps or self.rate_hz or _USUAL_HZ
        note = f"gives single pictures; asks for {rate_hz:g} a second"
        due = time.monotonic()
        while not stop.is_set():
            self.say(note)
            due = max(due + 1 / rate_hz, time.monotonic())
            if stop.wait(due - time.monotonic()):
                return
            answer = conversation.get(answer)
            if answer.status == 304:
                continue
            if not self._is_jpeg(answer):
                raise ValueError("no picture any more")
            jpegs = Jpegs()
            while data := answer.read():
                for jpeg in jpegs.feed(data):
                    if jpeg != last:
                        yield jpeg, answer.wire.empty_s
                    last = jpeg

    def _pictures(self, jpegs: Iterator[tuple[bytes, float]], connection: int) -> Iterator[Frame]:
        """The frames of these pictures."""
        clock, utc, damage = CaptureClock(), UtcClock(), Damage(self.damaged, jpeg=True)
        decoder = av.CodecContext.create("mjpeg", "r")
        decoder.options, decoder.thread_count = LIMITS, 1
        index = 0
        for jpeg, arrived_s in jpegs:
            packet: Any = av.Packet(jpeg)
            try:
                decoded = decoder.decode(packet)
            except av.error.FFmpegError:
                self.damaged()
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self.damaged()
                time_us = clock.utc_us(None, utc.utc_us(round(arrived_s * 1e6)), set_us=utc.set_us)
                if not damage.hides(frame, packet):
                    self._connected = True
                    show, timeline = partial(picture, frame, self.uri, packet), Timeline(set_us=utc.set_us)
                    yield Frame(time_us, index, connection, show, arrived_s, timeline)
                index += 1


class _Bounded:
    """What FFmpeg reads of an answer: it keeps all of a packet, and so gets no more than a picture's bytes for one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._count = 0  # bytes since the last packet

    def came(self) -> None:
        """A packet was complete."""
        self._count = 0

    def read(self, most: int) -> bytes:
        """As `Answer.read`. ValueError when it gets too much."""
        data = self._answer.read(most)
        self._count += len(data)
        if self._count > MOST_BYTES:
            raise ValueError(f"no packet in {MOST_BYTES} bytes")
        return data
