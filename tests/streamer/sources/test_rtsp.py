from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from streamer.types import Frame
from tests.conftest import WaitFor
from tests.streamer.sources.conftest import StartReader
from tools.cameras import HttpCamera, RtspServer, missing_for_rtsp, write_rtsp_clip
from tools.cameras.answering import Answering
from tools.cameras.barcode import read_barcode

StartRtsp = Callable[..., RtspServer]
StartHttp = Callable[..., HttpCamera]
SECRET = "s3cr3t"


def source_of(uri: str, open_s: float = 5.0, read_s: float = 5.0) -> Source:
    return open_source(SourceConfig(uri=uri, open_s=open_s, read_s=read_s))


def read(source: Source, count: int) -> list[tuple[Frame, int]]:
    """The first frames with the numbers in their pictures."""
    frames = source.frames(2, threading.Event())
    found = [(frame, read_barcode(frame.bgr())) for frame in islice(frames, count)]
    frames.close()
    return found


def failure(source: Source, at: int = 0, do: Callable[[], None] = lambda: None) -> SourceError:
    """The error that ends reading, after something is done at a frame; no password is in it, nor in its traceback."""

    def read_on() -> None:
        for frame in source.frames(0, threading.Event()):
            if frame.index == at:
                do()

    with pytest.raises(SourceError) as caught:
        read_on()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    return caught.value


def test_rtsp_frames_come_in_order_with_the_time_of_their_capture(rtsp_server: StartRtsp) -> None:
    server = rtsp_server()
    before = time.time_ns() // 1000
    found = read(source_of(server.url()), 40)
    after = time.time_ns() // 1000
    assert [(frame.index, frame.connection) for frame, _ in found] == [(i, 2) for i in range(40)]
    assert all(second == (first + 1) % 60 for (_, first), (_, second) in pairwise(found))
    assert all(before - 1_000_000 <= frame.time_us <= after for frame, _ in found)
    # the first frames may be a burst; and once the camera tells its own time, frames move to it
    steps = [later.time_us - earlier.time_us for (earlier, _), (later, _) in pairwise(found[10:])]
    assert sum(30_000 <= step <= 36_000 for step in steps) >= len(steps) // 2
    assert found[0][0].bgr().shape == (128, 160, 3)


def test_rtsp_with_the_right_password(rtsp_server: StartRtsp) -> None:
    server = rtsp_server("--user", "viewer", "--password", f"{SECRET}@:/")
    assert len(read(source_of(server.url(f"viewer:{SECRET}%40%3A%2F@")), 3)) == 3


@pytest.mark.parametrize("credentials", ["viewer:wrong-s3cr3t@", ""])
def test_rtsp_with_a_wrong_password_says_so_and_is_tried_slowly(rtsp_server: StartRtsp, credentials: str) -> None:
    server = rtsp_server("--user", "viewer", "--password", SECRET)
    error = failure(source_of(server.url(credentials)))
    assert "wrong user name or password" in str(error)
    assert error.retry == "slow"


def test_rtsp_with_a_wrong_path_says_so(rtsp_server: StartRtsp) -> None:
    error = failure(source_of(rtsp_server().url(f"viewer:{SECRET}@", path="/nowhere")))
    assert str(error).startswith("rtsp://***@127.0.0.1:")
    assert "no such stream; check the path" in str(error)
    assert error.retry == "soon"


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_port_where_nobody_listens_is_refused(scheme: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        error = failure(source_of(f"{scheme}://viewer:{SECRET}@127.0.0.1:{reserved.getsockname()[1]}/cam"))
    assert "connection refused" in str(error)
    assert error.retry == "soon"


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_port_that_never_answers_is_given_up_in_time(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        error = failure(source_of(f"{scheme}://viewer:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/cam", open_s=0.5))
        assert time.monotonic() - began < 20
    assert "no answer within 0.5 s" in str(error)
    assert error.retry == "soon"


def test_a_host_that_does_not_exist_says_so() -> None:
    error = failure(source_of(f"rtsp://viewer:{SECRET}@camera.invalid/cam"))
    assert "check the host name" in str(error)


def test_a_frozen_camera_ends_the_connection(rtsp_server: StartRtsp) -> None:
    server = rtsp_server()
    error = failure(source_of(server.url(), read_s=0.3), at=5, do=server.freeze)
    assert "no data for 0.3 s" in str(error)
    assert error.retry == "soon"


def test_a_frozen_camera_is_stalled_and_recovers(
    rtsp_server: StartRtsp, start_reader: StartReader, wait_for: WaitFor
) -> None:
    server = rtsp_server()
    watched = start_reader(source_of(server.url(), read_s=10))
    wait_for(lambda: watched.health().state == "online")
    server.freeze()
    wait_for(lambda: watched.health().state == "stalled")
    captured = watched.health().captured
    server.thaw()
    wait_for(lambda: watched.health().state == "online")
    wait_for(lambda: watched.health().captured > captured)
    assert {frame.connection for frame in watched.frames} == {0}


def test_a_camera_that_dies_and_comes_back_is_a_new_connection(
    rtsp_server: StartRtsp, start_reader: StartReader, wait_for: WaitFor
) -> None:
    server = rtsp_server()
    watched = start_reader(source_of(server.url(f"viewer:{SECRET}@"), open_s=1, read_s=0.5))
    wait_for(lambda: len(watched.frames) > 5)
    server.kill()
    wait_for(lambda: watched.health().state == "offline")
    wait_for(lambda: "connection refused" in watched.health().detail)
    assert SECRET not in watched.health().detail
    rtsp_server(port=server.port)
    wait_for(lambda: watched.health().state == "online")
    assert watched.health().reconnects == 1
    assert {frame.connection for frame in watched.frames} == {0, 1}


def test_a_camera_may_be_down_at_the_start(
    rtsp_server: StartRtsp, start_reader: StartReader, wait_for: WaitFor
) -> None:
    first = rtsp_server()
    first.kill()
    watched = start_reader(source_of(first.url()))
    wait_for(lambda: watched.health().state == "offline")
    rtsp_server(port=first.port)
    wait_for(lambda: watched.health().state == "online")
    assert watched.health().reconnects == 0


def test_damaged_rtsp_frames_are_counted_and_reading_goes_on(rtsp_server: StartRtsp) -> None:
    server = rtsp_server()
    source = source_of(server.url())
    clean = 0
    for frame in source.frames(0, threading.Event()):
        if frame.index == 5:
            server.command("corrupt")
        if source.corrupt >= 5:
            server.command("clean")
            clean += 1
        if clean == 30:
            break
        assert frame.index < 600, "no damage was seen"


def test_stop_ends_reading_in_the_middle_of_a_stream(rtsp_server: StartRtsp) -> None:
    stop = threading.Event()
    frames = source_of(rtsp_server().url()).frames(0, stop)
    next(frames)
    stop.set()
    assert next(frames, None) is None


@pytest.mark.parametrize(("scheme", "damage"), [("http", "truncate"), ("http", "corrupt"), ("rtsp", "truncate")])
def test_a_camera_that_sends_only_damaged_frames_is_stalled_and_says_so(
    request: pytest.FixtureRequest, start_reader: StartReader, wait_for: WaitFor, scheme: str, damage: str
) -> None:
    camera = request.getfixturevalue("http_camera" if scheme == "http" else "rtsp_server")()
    source = source_of(camera.url())
    watched = start_reader(source)
    wait_for(lambda: watched.health().captured > 5)
    camera.command(damage)
    wait_for(lambda: watched.health().state == "stalled" and "only damaged frames" in watched.health().detail)
    captured, corrupt = watched.health().captured, source.corrupt
    wait_for(lambda: source.corrupt > corrupt + 5)
    assert watched.health().captured == captured
    camera.command("clean")
    wait_for(lambda: watched.health().state == "online" and watched.health().captured > captured + 30)
    assert {frame.connection for frame in watched.frames} == {0}


def test_an_rtsp_camera_that_dies_is_disconnected(rtsp_server: StartRtsp) -> None:
    server = rtsp_server()
    error = failure(source_of(server.url()), at=3, do=server.kill)
    assert "disconnected by the camera" in str(error)
    assert error.retry == "soon"


@pytest.fixture(scope="module")
def long_gop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 3 s whose only keyframe is the first: one who comes later has to wait for it."""
    if reason := missing_for_rtsp():
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("rtsp") / "long"
    write_rtsp_clip(path, count=90, keys=90)
    return path


@pytest.fixture
def smart_camera(long_gop: Path) -> Iterator[RtspServer]:
    server = RtspServer(long_gop)
    yield server
    server.kill()


def test_the_keyframe_that_comes_at_the_beginning_is_shown(smart_camera: RtspServer) -> None:
    assert [number for _, number in read(source_of(smart_camera.url()), 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("capture", ["thread", "process"])
def test_who_waits_for_a_keyframe_says_so_and_does_not_hang(
    smart_camera: RtspServer,
    start_reader: StartReader,
    wait_for: WaitFor,
    capture: Literal["thread", "process"],
) -> None:
    first = start_reader(source_of(smart_camera.url()))
    wait_for(lambda: first.health().state == "online")
    source = open_source(SourceConfig(uri=smart_camera.url(), open_s=0.4, read_s=0.4, capture=capture))
    late = start_reader(source)
    said: list[tuple[str, bool]] = []
    hung = False

    def is_online() -> bool:
        nonlocal hung
        health = late.health()
        said.append((health.state, "waits for a keyframe" in health.detail))
        hung |= late.reader.hangs(time.monotonic())
        return health.state == "online"

    wait_for(is_online)
    assert ("connecting", True) in said
    assert said[-1] == ("online", False)
    assert not hung
    assert late.health().reconnects == source.crashes == 0


def test_frames_that_waited_to_be_read_are_not_taken_for_new(smart_camera: RtspServer) -> None:
    frames = source_of(smart_camera.url()).frames(0, threading.Event())
    ages_s: list[float] = []
    for frame in frames:
        assert frame.arrived_s is not None
        ages_s.append(time.monotonic() - frame.arrived_s)
        if frame.index == 10:
            time.sleep(1.5)  # as a reader does that was stopped: the camera goes on
        if frame.index > 10 and (ages_s[-1] < 0.1 or frame.index > 500):
            break
    frames.close()
    assert ages_s[11] > 1
    assert ages_s[-1] < 0.1
    assert sum(age_s > 0.25 for age_s in ages_s) > 20


@pytest.mark.parametrize(("has", "asked"), [("udp", "tcp"), ("tcp", "udp")])
def test_a_camera_that_refuses_a_transport_is_read_over_the_other_and_it_is_told_once(
    rtsp_server: StartRtsp, caplog: pytest.LogCaptureFixture, has: str, asked: Literal["tcp", "udp"]
) -> None:
    server = rtsp_server("--transport", has)
    source = open_source(SourceConfig(uri=server.url(), transport=asked))
    for _ in range(2):
        assert len(read(source, 3)) == 3
        assert f"refuses RTP over {asked.upper()}, so it is read over {has.upper()}" in source.note
    assert caplog.text.count("refuses RTP") == 1


def test_a_camera_that_refuses_both_transports_says_so(answering: Callable[..., Answering]) -> None:
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"

    def answer(request: str) -> list[bytes]:
        number = next(line for line in request.splitlines() if line.startswith("CSeq"))
        status = "461 Unsupported Transport" if request.startswith("SETUP") else "200 OK"
        body = sdp if request.startswith("DESCRIBE") else ""
        head = f"RTSP/1.0 {status}\r\n{number}\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        return [f"{head}\r\n{body}".encode()]

    error = failure(source_of(answering(answer, keep=True).url(scheme="rtsp")))
    assert "refuses RTP over TCP and over UDP" in str(error)


def test_a_redirect_to_another_path_of_the_camera_is_followed(answering: Callable[..., Answering]) -> None:
    def answer(request: str) -> list[bytes]:
        if request.split()[1].endswith("/moved"):
            return [b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n"]
        return [b"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: /moved\r\n\r\n"]

    camera = answering(answer, keep=True)
    error = failure(source_of(camera.url(scheme="rtsp", credentials=f"viewer:{SECRET}@")))
    assert "no such stream" in str(error)
    assert camera.requests[1].startswith(f"OPTIONS {camera.url('/moved', 'rtsp')} RTSP/1.0\r\n")


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE"])
@pytest.mark.parametrize("before", [b"", b'RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'])
def test_an_rtsp_camera_that_sends_us_elsewhere_is_not_obeyed(
    answering: Callable[..., Answering], before: bytes, method: str
) -> None:
    victim = answering(lambda _: [b"RTSP/1.0 404 Not Found\r\n\r\n"])
    there = f"RTSP/1.0 302 Found\r\nLocation: {victim.url(scheme='rtsp')}\r\n\r\n".encode()

    def answer(request: str) -> list[bytes]:
        if before and "Authorization" not in request:
            return [before]
        return [there if request.startswith(method) else b"RTSP/1.0 200 OK\r\n\r\n"]

    camera = answering(answer, keep=True)
    error = failure(source_of(camera.url(scheme="rtsp", credentials=f"viewer:{SECRET}@")))
    assert "sends us to rtsp://127.0.0.1" in str(error)
    assert error.retry == "slow"
    assert victim.accepted == 0


def test_a_nonce_that_counts_for_one_connection_and_one_request_is_answered(
    answering: Callable[..., Answering],
) -> None:
    nonces: list[str] = []

    def answer(request: str) -> list[bytes]:
        if nonces and f'nonce="{nonces[-1]}"' in request:
            nonces.append("used")
            return [b"RTSP/1.0 404 Not Found\r\n\r\n" if "DESCRIBE" in request else b"RTSP/1.0 200 OK\r\n\r\n"]
        nonces.append(f"n{len(nonces)}")
        stale = ", stale=TRUE" if "Digest" in request else ""
        return [f'RTSP/1.0 401 No\r\nWWW-Authenticate: Digest realm="x", nonce="{nonces[-1]}"{stale}\r\n\r\n'.encode()]

    camera = answering(answer, keep=True)
    assert "no such stream" in str(failure(source_of(camera.url(scheme="rtsp", credentials=f"viewer:{SECRET}@"))))
    assert all(SECRET not in request for request in camera.requests)
