from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.request import parse_http_list, parse_keqv_list

import cv2
import pytest

from streamer.config import SourceConfig
from streamer.sources import open_source
from tests.streamer.sources.test_rtsp import SECRET, StartHttp, failure, read, source_of
from tools.cameras.answering import HEAD, Answering
from tools.cameras.barcode import barcode

StartAnswering = Callable[..., Answering]
MULTIPART = HEAD + b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
LENGTH = "Content-Length: {}\r\n"
JPEGS = [cv2.imencode(".jpg", barcode(number))[1].tobytes() for number in range(8)]


def part(jpeg: bytes, length: str = LENGTH) -> bytes:
    return b"Content-Type: image/jpeg\r\n" + length.format(len(jpeg)).encode() + b"\r\n" + jpeg + b"\r\n"


def picture(jpeg: bytes, head: bytes = b"") -> bytes:
    """The answer of an address that gives single pictures."""
    return HEAD + head + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg


def forever(head: bytes, pieces: list[bytes]) -> Iterator[bytes]:
    yield head
    for piece in itertools.cycle(pieces):
        time.sleep(0.02)
        yield piece


def test_a_stream_without_the_first_boundary_is_read(answering: StartAnswering) -> None:
    parts = [b"--b\r\n" + part(jpeg) for jpeg in (*JPEGS[1:], JPEGS[0])]
    camera = answering(lambda _: forever(MULTIPART + part(JPEGS[0]), parts))
    assert [number for _, number in read(source_of(camera.url()), 8)] == list(range(8))


@pytest.mark.parametrize(
    ("head", "lead", "length"),
    [
        (b"Content-Type: multipart/x-mixed-replace; boundary=other\r\n\r\n", b"--b\r\n", LENGTH),
        (b"Content-Type: multipart/x-mixed-replace\r\nContent-Length: 0\r\n\r\n", b"--b\n", ""),
        (b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n", b"--b\r\n", "content-length: 2147483647\r\n"),
        (b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n", b"--b\r\n", "Content-Length: 0\r\nX: y\r\n"),
        (b"\r\n", b"--b\r\n", LENGTH),
        (b"Content-Type: text/plain\r\n\r\n", b"--b\r\n", ""),
        (b"Content-Type: image/jpeg\r\n\r\n", b"", ""),
    ],
)
def test_streams_with_odd_headers_are_read(answering: StartAnswering, head: bytes, lead: bytes, length: str) -> None:
    pieces = [lead + part(jpeg, length) if lead else jpeg for jpeg in JPEGS]
    camera = answering(lambda _: forever(HEAD + head, pieces))
    assert [number for _, number in read(source_of(camera.url()), 8)] == list(range(8))


@pytest.mark.parametrize("keep", [True, False])
def test_a_single_picture_is_asked_for_again_and_again(
    answering: StartAnswering, caplog: pytest.LogCaptureFixture, keep: bool
) -> None:
    jpegs = itertools.cycle(JPEGS)

    def answer(_: str) -> list[bytes]:
        if keep:
            return [picture(next(jpegs))]
        return [HEAD + b"Content-Type: image/jpeg\r\nConnection: close\r\n\r\n" + next(jpegs)]

    camera = answering(answer, keep=keep)
    source = open_source(SourceConfig(uri=camera.url(), fps=50))
    assert [number for _, number in read(source, 6)] == list(range(6))
    assert source.note == "gives single pictures; asks for 50 a second"
    assert caplog.text.count("gives single pictures") == 1
    assert camera.accepted == (1 if keep else len(camera.requests))


def test_a_picture_that_has_not_changed_is_no_new_frame(answering: StartAnswering) -> None:
    numbers = itertools.count()

    def answer(request: str) -> list[bytes]:
        number = next(numbers)
        if number % 3 == 2:
            assert 'If-None-Match: "a"' in request
            return [b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n']
        return [picture(JPEGS[number // 3], b'ETag: "a"\r\n')]  # each is sent twice

    source = open_source(SourceConfig(uri=answering(answer, keep=True).url(), fps=100))
    assert [number for _, number in read(source, 4)] == [0, 1, 2, 3]


def test_single_pictures_come_at_the_rate_of_the_model(answering: StartAnswering) -> None:
    source = source_of(answering(lambda _: [picture(JPEGS[0])], keep=True).url())
    source.rate_hz = 7.5
    frames = source.frames(0, stop := threading.Event())
    next(frames)
    threading.Timer(0.3, stop.set).start()
    assert next(frames, None) is None
    assert "asks for 7.5 a second" in source.note


def test_a_picture_that_is_asked_for_when_the_source_is_stopped_is_no_error(answering: StartAnswering) -> None:
    stop = threading.Event()

    def answer(_head: str) -> Iterator[bytes]:
        if len(camera.requests) == 1:
            yield from [picture(JPEGS[0])]
        else:
            stop.set()
            time.sleep(0.3)

    camera = answering(answer, keep=True)
    source = source_of(camera.url())
    frames = source.frames(0, stop)
    next(frames)
    assert next(frames, None) is None


def test_an_hls_playlist_is_refused_in_a_sentence_and_nothing_in_it_is_asked_for(answering: StartAnswering) -> None:
    victim = answering(lambda _: [HEAD + b"\r\n"])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{victim.url('/a.ts')}\n#EXTINF:2,\nfile:///etc/passwd\n"
    camera = answering(lambda _: [HEAD + b"Content-Type: application/vnd.apple.mpegurl\r\n\r\n" + playlist.encode()])
    error = failure(source_of(camera.url("/live.m3u8")))
    assert "an HLS playlist, which is not read" in str(error)
    assert error.retry == "never"
    assert victim.accepted == 0


@pytest.mark.parametrize(
    "body",
    [
        b"ffconcat version 1.0\nfile /etc/passwd\nfile {}\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 46788 RTP/AVP 96\r\n",
        b'<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>',
        b"\xef\xbb\xbf#EXTM3U\n#EXTINF:2,\n{}\n",
        b"\0\0\0\x18ftypqt  \0\0\0\0qt  " + bytes(64),
        b"",
    ],
)
def test_an_answer_that_refers_to_something_else_is_no_video(answering: StartAnswering, body: bytes) -> None:
    victim = answering(lambda _: [HEAD + b"\r\n"])
    body = body.replace(b"{}", victim.url().encode())
    error = failure(source_of(answering(lambda _: [HEAD + b"\r\n" + body]).url()))
    assert "not with video" in str(error)
    assert victim.accepted == 0


@pytest.mark.parametrize("scheme", ["http", "rtsp", "file", "tcp", "data"])
def test_an_http_camera_that_sends_us_elsewhere_is_not_obeyed(answering: StartAnswering, scheme: str) -> None:
    victim = answering(lambda _: [HEAD + b"\r\n"])
    camera = answering(lambda _: [f"HTTP/1.1 302 Found\r\nLocation: {victim.url(scheme=scheme)}\r\n\r\n".encode()])
    error = failure(source_of(camera.url(credentials=f"viewer:{SECRET}@")))
    assert "sends us to" in str(error)
    assert error.retry == "slow"
    assert victim.accepted == 0


def test_a_redirect_on_the_same_host_is_followed_without_cookies(answering: StartAnswering) -> None:
    def answer(request: str) -> Iterator[bytes]:
        if request.startswith("GET /cam"):
            return iter([b"HTTP/1.1 302 Found\r\nSet-Cookie: a=\x01\x02\r\nLocation: /b%20c?d=\x01e\r\n\r\n"])
        return forever(MULTIPART, [b"--b\r\n" + part(jpeg) for jpeg in JPEGS])

    camera = answering(answer)
    assert len(read(source_of(camera.url()), 3)) == 3
    assert camera.requests[1].startswith("GET /b%20c?d=%01e HTTP/1.1\r\n")
    assert "ookie" not in camera.requests[1]


def test_redirects_without_an_end_are_given_up(answering: StartAnswering) -> None:
    camera = answering(lambda _: [b"HTTP/1.1 302 Found\r\nLocation: /cam\r\n\r\n"])
    assert "too many redirects" in str(failure(source_of(camera.url())))
    assert len(camera.requests) < 10


@pytest.mark.parametrize("algorithm", ["", ", algorithm=MD5", ", algorithm=SHA-256"])
def test_digest_authentication_is_answered(answering: StartAnswering, algorithm: str) -> None:
    asked = f'Digest realm="cam", nonce="abc", qop="auth", opaque="o"{algorithm}'
    refused = f'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nWWW-Authenticate: {asked}\r\n\r\n'.encode()
    parts = [b"--b\r\n" + part(jpeg) for jpeg in JPEGS]
    camera = answering(lambda request: forever(MULTIPART, parts) if "Digest" in request else [refused])
    assert len(read(source_of(camera.url(credentials=f"viewer:{SECRET}@")), 2)) == 2
    line = next(line for line in camera.requests[1].splitlines() if line.startswith("Authorization"))
    found = parse_keqv_list(parse_http_list(line.partition("Digest ")[2]))
    hashed = partial(digest, "sha256" if "SHA" in algorithm else "md5")
    secret, request = hashed("viewer", "cam", SECRET), hashed("GET", "/cam")
    assert found["response"] == hashed(secret, "abc", found["nc"], found["cnonce"], "auth", request)
    assert SECRET not in "".join(camera.requests)


def digest(algorithm: str, *parts: str) -> str:
    return hashlib.new(algorithm, ":".join(parts).encode()).hexdigest()


@pytest.mark.parametrize(
    "flood",
    [
        [HEAD, *[b"Set-Cookie: a=b\r\n" * 50] * 1000],
        [b"HTTP/1.1 100 Continue\r\n\r\n"] * 500_000,
        [MULTIPART, *[b"X-A: b\r\n" * 100_000] * 60],
        [MULTIPART, b"\xff\xd8\xff\xe0", *[b"\xff" * 1_000_000] * 60],
    ],
)
def test_what_has_no_end_is_given_up(answering: StartAnswering, flood: list[bytes]) -> None:
    error = failure(source_of(answering(lambda _: flood).url(), open_s=1, read_s=1))
    assert error.retry == "soon"
    assert "ended by the camera" not in str(error)


def test_a_picture_in_h264_that_has_no_end_is_given_up(
    answering: StartAnswering, write_video: Callable[..., Path]
) -> None:
    video = write_video("clip.h264").read_bytes() + b"\0\0\0\1\x65"
    head = HEAD + b"Content-Type: video/h264\r\n\r\n"
    camera = answering(lambda _: [head, video, *[b"\xa5" * 1_000_000] * 60])
    assert "no picture" in str(failure(source_of(camera.url())))


def test_a_picture_that_comes_byte_by_byte_is_given_up(answering: StartAnswering) -> None:
    camera = answering(lambda _: forever(MULTIPART + b"--b\r\n" + part(JPEGS[0]), [b"x"]))
    assert "no data" in str(failure(source_of(camera.url(), open_s=0.3, read_s=0.3)))


def test_live_mpeg_ts_is_read(answering: StartAnswering, write_video: Callable[..., Path]) -> None:
    data = write_video("clip.ts", count=90).read_bytes()
    pieces = [data[at : at + 1880] for at in range(0, len(data), 1880)]
    camera = answering(lambda _: [HEAD + b"Content-Type: video/mp2t\r\n\r\n", *pieces])
    assert [number for _, number in read(source_of(camera.url()), 60)] == list(range(60))


def test_pictures_that_waited_to_be_read_are_not_taken_for_new(http_camera: StartHttp) -> None:
    frames = source_of(http_camera().url()).frames(0, threading.Event())
    next(frames)
    time.sleep(0.6)  # as a reader does that was stopped: the camera goes on
    stale = next(frames)
    assert stale.arrived_s is not None
    assert time.monotonic() - stale.arrived_s > 0.5
    assert any(frame.arrived_s and time.monotonic() - frame.arrived_s < 0.1 for frame in itertools.islice(frames, 50))
    frames.close()


def test_pictures_that_waited_for_long_are_left_out_and_it_is_told(
    http_camera: StartHttp, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(http_camera().url())
    frames = source.frames(0, threading.Event())
    _, first = next(frames), time.monotonic()
    time.sleep(1.5)
    after = next(frames)
    frames.close()
    assert after.arrived_s is not None
    assert after.arrived_s > first + 1
    assert "left out" in caplog.text
    assert source.note == ""


def test_mjpeg_over_http_is_stamped_by_arrival(http_camera: StartHttp) -> None:
    camera = http_camera()
    before = time.time_ns() // 1000
    found = read(source_of(camera.url()), 10)
    assert [number for _, number in found] == list(range(found[0][1], found[0][1] + 10))
    assert all(before <= frame.time_us <= time.time_ns() // 1000 for frame, _ in found)
    assert all(earlier.time_us < later.time_us for (earlier, _), (later, _) in pairwise(found))


def test_damaged_jpegs_are_counted_and_reading_goes_on(http_camera: StartHttp) -> None:
    camera = http_camera()
    camera.damaged = {4, 5}
    source = source_of(camera.url())
    numbers = [number for _, number in read(source, 12)]
    assert source.corrupt == 2
    assert not {4, 5} & set(numbers)
    assert numbers[-1] >= 12


def test_a_camera_that_never_ends_its_jpegs_is_believed(http_camera: StartHttp) -> None:
    camera = http_camera()
    camera.command("unended")
    source = source_of(camera.url())
    assert len(read(source, 30)) == 30
    assert source.corrupt == 0


def test_an_http_camera_that_closes_the_connection_is_lost(http_camera: StartHttp) -> None:
    camera = http_camera()
    error = failure(source_of(camera.url()), at=3, do=camera.cut.set)
    assert "connection lost" in str(error)
    assert error.retry == "soon"


@pytest.mark.parametrize(
    ("status", "words", "retry"),
    [
        (401, "wrong user name or password", "slow"),
        (403, "this user may not watch", "slow"),
        (404, "no such stream", "soon"),
        (500, "error 500", "soon"),
        (200, "check", "soon"),
    ],
)
def test_http_answers_that_are_no_video_are_explained(
    http_camera: StartHttp, status: int, words: str, retry: str
) -> None:
    url = http_camera(page=(status, b"<html>hello</html>" * 100)).url(f"/page?password={SECRET}")
    error = failure(source_of(url.replace("127.0.0.1", f"viewer:{SECRET}@127.0.0.1")))
    assert words in str(error)
    assert error.retry == retry


def test_a_recording_on_a_server_is_not_taken_for_a_camera(
    http_camera: StartHttp, write_video: Callable[..., Path]
) -> None:
    camera = http_camera(**{"clip.mp4": (200, write_video(count=60).read_bytes())})
    error = failure(source_of(camera.url("/clip.mp4")))
    assert "download it" in str(error)
    assert error.retry == "never"
