from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from streamer.sources.reader import Health, Reader
from streamer.types import Frame
from tests.conftest import WaitFor
from tools.cameras import HttpCamera, RtspServer
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


class Watched:
    """A reader at work: the frames' connections and how it is."""

    def __init__(self, source: Source, stop: threading.Event) -> None:
        self.connections: list[int] = []
        self.reader = Reader(source, lambda frame: self.connections.append(frame.connection), stop)
        self.thread = threading.Thread(target=self.reader.run)
        self.thread.start()

    def health(self) -> Health:
        return self.reader.health(time.monotonic())


@pytest.fixture
def watch() -> Iterator[Callable[[Source], Watched]]:
    stop, watched = threading.Event(), []

    def one(source: Source) -> Watched:
        watched.append(Watched(source, stop))
        return watched[-1]

    yield one
    stop.set()
    for each in watched:
        each.thread.join(20)
        assert not each.thread.is_alive()


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
    rtsp_server: StartRtsp, watch: Callable[[Source], Watched], wait_for: WaitFor
) -> None:
    server = rtsp_server()
    watched = watch(source_of(server.url(), read_s=10))
    wait_for(lambda: watched.health().state == "online")
    server.freeze()
    wait_for(lambda: watched.health().state == "stalled")
    captured = watched.health().captured
    server.thaw()
    wait_for(lambda: watched.health().state == "online")
    wait_for(lambda: watched.health().captured > captured)
    assert set(watched.connections) == {0}


def test_a_camera_that_dies_and_comes_back_is_a_new_connection(
    rtsp_server: StartRtsp, watch: Callable[[Source], Watched], wait_for: WaitFor
) -> None:
    server = rtsp_server()
    watched = watch(source_of(server.url(f"viewer:{SECRET}@"), open_s=1, read_s=0.5))
    wait_for(lambda: len(watched.connections) > 5)
    server.kill()
    wait_for(lambda: watched.health().state == "offline")
    wait_for(lambda: "connection refused" in watched.health().detail)
    assert SECRET not in watched.health().detail
    rtsp_server(port=server.port)
    wait_for(lambda: watched.health().state == "online")
    assert watched.health().reconnects == 1
    assert sorted(set(watched.connections)) == [0, 1]


def test_a_camera_may_be_down_at_the_start(
    rtsp_server: StartRtsp, watch: Callable[[Source], Watched], wait_for: WaitFor
) -> None:
    first = rtsp_server()
    first.kill()
    watched = watch(source_of(first.url()))
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


@pytest.mark.parametrize(("scheme", "damage"), [("http", "truncate"), ("http", "corrupt"), ("rtsp", "truncate")])
def test_a_camera_that_sends_only_damaged_frames_is_stalled_and_says_so(
    request: pytest.FixtureRequest, watch: Callable[[Source], Watched], wait_for: WaitFor, scheme: str, damage: str
) -> None:
    camera = request.getfixturevalue("http_camera" if scheme == "http" else "rtsp_server")()
    source = source_of(camera.url())
    watched = watch(source)
    wait_for(lambda: watched.health().captured > 5)
    camera.command(damage)
    wait_for(lambda: watched.health().state == "stalled" and "only damaged frames" in watched.health().detail)
    captured, corrupt = watched.health().captured, source.corrupt
    wait_for(lambda: source.corrupt > corrupt + 5)
    assert watched.health().captured == captured
    camera.command("clean")
    wait_for(lambda: watched.health().state == "online" and watched.health().captured > captured + 30)
    assert set(watched.connections) == {0}


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


def test_an_rtsp_camera_that_dies_is_disconnected(rtsp_server: StartRtsp) -> None:
    server = rtsp_server()
    error = failure(source_of(server.url()), at=3, do=server.kill)
    assert "disconnected by the camera" in str(error)
    assert error.retry == "soon"


@pytest.mark.parametrize(
    ("status", "words", "retry"),
    [
        (401, "wrong user name or password", "slow"),
        (403, "this user may not watch", "slow"),
        (404, "no such stream", "soon"),
        (500, "5XX", "soon"),
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
