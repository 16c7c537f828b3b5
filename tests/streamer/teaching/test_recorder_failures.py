"""Recording clips: whatever goes wrong or ends it, only whole clips are left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.stream import VideoStream
from rich.console import Console

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.teaching.recorder import Plan, Recorder, record
from streamer.teaching.telling import View
from streamer.types import Frame
from tests.conftest import WaitFor
from tests.streamer.teaching.test_recorder import AT_ONCE, SECRET, clips_in, command, contents, record_to
from tools.cameras import HttpCamera, RtspServer
from tools.cameras.barcode import barcode


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the tool in the background; it ends with the test."""
    started = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_file.mp4", "there is no such file"),
        ("rtps://cam/a", "did you mean rtsps://?"),
        ("pattern://swop", "there is no pattern 'swop'"),
    ],
)
def test_a_source_that_cannot_be_is_told_before_anything_is_made(
    tmp_path: Path, source: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_to(tmp_path / "out", source) == 3
    out, err = capsys.readouterr()
    assert err.startswith("record: ")
    assert message in err
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_video_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "noise.mp4"
    file.write_bytes(bytes(range(256)) * 20)
    assert record_to(tmp_path / "out", file) == 3
    assert "noise.mp4: this is not a video" in capsys.readouterr().err


def test_a_camera_that_cannot_be_reached_is_an_error_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert record_to(tmp_path / "out", f"rtsp://user:{SECRET}@127.0.0.1:{port}/cam") == 3
    out, err = capsys.readouterr()
    assert err.startswith(f"record: rtsp://***@127.0.0.1:{port}/cam: connection refused")
    assert SECRET not in out + err
    assert clips_in(tmp_path / "out") == []


def test_a_camera_that_goes_away_leaves_the_whole_clips_and_no_half_one(
    tmp_path: Path, http_camera: Callable[..., HttpCamera], capsys: pytest.CaptureFixture[str], wait_for: WaitFor
) -> None:
    camera = http_camera()
    address = camera.url().replace("://", f"://user:{SECRET}@")

    def cut() -> None:
        wait_for(lambda: (tmp_path / "wave/wave-0001.mp4").exists() and list(tmp_path.glob(".wave-*.part")) != [])
        camera.cut.set()

    cutter = threading.Thread(target=cut)
    cutter.start()
    assert record_to(tmp_path, address, "--clips", 1000, "--seconds", 0.4, *AT_ONCE) == 3
    cutter.join()
    clips = clips_in(tmp_path)
    assert clips[:2] == ["wave", "wave/wave-0001.mp4"]
    for name in clips[1:]:
        times, _ = contents(tmp_path / name)
        assert all(after - before < 500_000 for before, after in pairwise(times))
        assert times[-1] > 200_000
    out, err = capsys.readouterr()
    shown = re.escape(camera.url().replace("://", "://***@"))
    assert re.fullmatch(rf"record: {shown}: (disconnected by the camera|connection lost \([^()]*\))\n", err)
    assert f"recorded {len(clips) - 1} of 1000 clips" in out
    assert SECRET not in out + err


def test_a_camera_with_a_password_is_recorded_and_the_password_is_never_shown(
    tmp_path: Path, rtsp_server: Callable[..., RtspServer], capsys: pytest.CaptureFixture[str]
) -> None:
    server = rtsp_server("--fps", "30", "--user", "user", "--password", SECRET)
    address = server.url(f"user:{SECRET}@")
    assert record_to(tmp_path, address, "--clips", 1, "--seconds", 0.5, *AT_ONCE) == 0
    _, numbers = contents(tmp_path / "wave/wave-0001.mp4")
    assert all(after in (before + 1, 0) for before, after in pairwise(numbers))  # it plays 60 frames over and over
    assert record_to(tmp_path, server.url(f"user:not{SECRET}@"), *AT_ONCE) == 3
    out, err = capsys.readouterr()
    assert f"rtsp://***@127.0.0.1:{server.port}/cam: opening" in out
    assert err.startswith(f"record: rtsp://***@127.0.0.1:{server.port}/cam: wrong user name or password")
    assert SECRET not in out + err


def test_a_camera_that_falls_silent_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jpeg = cv2.imencode(".jpg", barcode(1))[1].tobytes()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    done = threading.Event()

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(head + 3 * part)
            done.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/cam"
        assert record_to(tmp_path, address, *AT_ONCE) == 3
        done.set()
        thread.join(30)
    assert capsys.readouterr().err == f"record: {address}: no data for 2 s\n"
    assert clips_in(tmp_path) == []


class Returning(Source):
    """A camera that is lost after ten frames and is back at once."""

    def __init__(self) -> None:
        super().__init__(SourceConfig(uri=f"rtsp://user:{SECRET}@cam/a"))

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for index in range(10 if connection == 0 else 30):
            yield Frame((10 * connection + index) * 40_000, index, connection, partial(barcode, 0))
        if connection > 0:
            stop.wait(60)
        raise SourceError(f"{self.uri}: gone; connecting again", "soon")


@pytest.mark.parametrize(
    ("watch_s", "message"), [(0.05, "cam/a: gone$"), (1.0, "the connection was lost for a moment")]
)
def test_a_camera_that_was_lost_is_an_error_even_if_it_comes_back(
    tmp_path: Path, watch_s: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.teaching.recorder._WATCH_S", watch_s)
    stop, view = threading.Event(), View(Console(quiet=True))
    recorder = Recorder(tmp_path, "wave", Plan(3, 0.4, 0, 0), view, stop)
    with pytest.raises(SourceError, match=message):
        record(Returning(), recorder, view, stop)
    assert clips_in(tmp_path) == []


class Hanging(Source):
    """A camera that gives a few frames and then hangs in its driver, until `free` is set."""

    def __init__(self) -> None:
        super().__init__(SourceConfig(uri=f"rtsp://user:{SECRET}@cam/a"))
        self.patience_s = 0.2
        self.free = threading.Event()

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for index in range(30):
            if index == 5:
                self.free.wait(60)
            yield Frame(index * 40_000, index, connection, partial(barcode, 0))


def test_a_camera_that_hangs_in_its_driver_is_an_error_and_its_late_frames_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.teaching.recorder._JOIN_S", 0.1)
    source, stop, view = Hanging(), threading.Event(), View(Console(quiet=True))
    recorder = Recorder(tmp_path, "wave", Plan(3, 0.4, 0, 0), view, stop)
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@cam/a: no picture for 0\.2 s"):
        record(source, recorder, view, stop)
    assert clips_in(tmp_path) == []
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "record")
    source.free.set()
    thread.join(30)
    assert clips_in(tmp_path) == []
    assert (recorder.kept, recorder.dropped) == (0, 0)


def test_a_full_disk_is_an_error_that_keeps_the_earlier_clips(tmp_path: Path) -> None:
    file, out = tmp_path / "calm_then_noise.mp4", tmp_path / "out"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        noise = np.random.default_rng(0).integers(0, 256, (60, 128, 160, 3), np.uint8)
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(barcode(index) if index < 30 else noise[index], format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    limited = ["sh", "-c", 'ulimit -f 150; exec "$@"', "sh", *command(out, file, "--seconds", 1, *AT_ONCE)]
    variables = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(limited, capture_output=True, text=True, timeout=90, env=variables, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"streamer: {out}: cannot be written (File too large); free some space")
    assert done.stderr.count("\n") == 1
    assert "recorded 1 of 10 clips of wave" in done.stdout
    assert clips_in(out) == ["wave", "wave/wave-0001.mp4"]
    assert contents(out / "wave/wave-0001.mp4")[1] == list(range(30))


@pytest.mark.parametrize("taken", [".", "wave"])
def test_a_file_in_the_way_of_a_folder_is_an_error(
    tmp_path: Path, taken: str, write_video: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / taken).parent.mkdir(exist_ok=True)
    (out / taken).write_text("mine")
    assert record_to(out, write_video(count=30), "--clips", 1, "--seconds", 0.5, *AT_ONCE) == 2
    assert f"record: {out}: cannot be written (File exists)" in capsys.readouterr().err
    assert (out / taken).read_text() == "mine"


def test_a_killed_recording_leaves_only_whole_clips_and_the_next_one_goes_on(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], write_video: Callable[..., Path], wait_for: WaitFor
) -> None:
    file = write_video(count=15)
    assert record_to(tmp_path / "out", file, "--clips", 1, "--seconds", 0.5, *AT_ONCE) == 0
    process = start(*command(tmp_path / "out", "pattern://swipe?size=640x480", "--seconds", 100, *AT_ONCE))
    wait_for(lambda: any(part.stat().st_size > 0 for part in (tmp_path / "out").glob(".wave-*.part")))
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out/wave").iterdir()] == ["wave-0001.mp4"]
    assert record_to(tmp_path / "out", file, "--clips", 1, "--seconds", 0.5, *AT_ONCE) == 0
    for name in ("wave-0001.mp4", "wave-0002.mp4"):
        assert contents(tmp_path / "out/wave" / name)[1] == list(range(15))


def test_ctrl_c_keeps_the_whole_clips_and_says_what_was_recorded(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], wait_for: WaitFor
) -> None:
    options = ("--clips", 1000, "--seconds", 0.5, *AT_ONCE)
    process = start(*command(tmp_path, "pattern://swipe?size=160x128", *options))
    wait_for((tmp_path / "wave/wave-0001.mp4").exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    clips = clips_in(tmp_path)
    assert f"recorded {len(clips) - 1} of 1000 clips of wave" in out
    assert "record another label" in out
    for name in clips[1:]:
        assert len(contents(tmp_path / name)[0]) == 15
