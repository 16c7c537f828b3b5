"""Cameras, or who answers in their place, that want more of this machine than a camera needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.cameras.answering import Answering

from .test_rtsp import failure, source_of

StartAnswering = Callable[..., Answering]
STREAM = "m=video 0 RTP/AVP 26\r\n"
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def field(request: str, name: str) -> str:
    return next(line for line in request.splitlines() if line.startswith(name))


@pytest.mark.parametrize("length", [-1, 1 << 31])
def test_an_rtsp_answer_of_impossible_length_is_not_read(answering: StartAnswering, length: int) -> None:
    def answer(request: str) -> Iterator[bytes]:
        yield f"RTSP/1.0 200 OK\r\n{field(request, 'CSeq')}\r\nContent-Length: {length}\r\n\r\n".encode()

    camera = answering(answer, keep=True)
    assert "answers, but not with video" in str(failure(source_of(camera.url(scheme="rtsp"), open_s=2)))
    assert len(camera.requests) == 1  # nobody waits for what does not come, and FFmpeg is not let in


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_that_names_hundreds_of_streams_gets_few(answering: StartAnswering, transport: str) -> None:
    open_files = [descriptors()]

    def answer(request: str) -> Iterator[bytes]:
        status, more = "200 OK", ""
        if request.startswith("SETUP"):
            open_files.append(descriptors())
            wanted = field(request, "Transport")
            status = "200 OK" if ("TCP" in wanted) == (transport == "tcp") else "461 Unsupported Transport"
            more = f"Session: 1\r\n{wanted};server_port=5000-5001\r\n"
        body = SDP + STREAM * 300 if request.startswith("DESCRIBE") else ""
        head = f"RTSP/1.0 {status}\r\n{field(request, 'CSeq')}\r\n{more}Content-Type: application/sdp\r\n"
        yield f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    failure(source_of(answering(answer, keep=True).url(scheme="rtsp"), read_s=0.3))
    assert 10 < len(open_files) < 150  # requests for a stream, of all attempts together
    assert max(open_files) < open_files[0] + 60
