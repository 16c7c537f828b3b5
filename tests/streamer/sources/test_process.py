"""Sources read in a process of their own: the same frames, and what a crash or a hang of that process does."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamer.commands.options import make_sources
from streamer.config import Capture, Config, SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from streamer.sources.child import LONGEST, NEXT, Answer, serve
from streamer.sources.process import ProcessSource
from streamer.sources.reader import Reader
from streamer.types import Frame, Timeline
from tests.conftest import WaitFor
from tools.cameras import HttpCamera, RtspServer
from tools.cameras.barcode import read_barcode

Open = Callable[..., Source]


def children() -> set[int]:
    """Capture processes of this one that run."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for number in (task / "children").read_text().split():
            if b"streamer.sources.child" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.add(int(number))
    return found


def only_child() -> int:
    (number,) = children()
    return number


@pytest.fixture
def isolated() -> Iterator[Open]:
    """Sources with `capture: process`; afterwards no process is left."""
    sources = []

    def make(uri: object, **fields: object) -> Source:
        sources.append(open_source(SourceConfig.model_validate({"uri": str(uri), "capture": "process", **fields})))
        return sources[-1]

    yield make
    for source in sources:
        source.close()
    assert not children()


def read(source: Source, most: int | None = None) -> list[tuple[Frame, int]]:
    """Frames with the numbers in their pictures."""
    with closing(source.frames(0, threading.Event())) as frames:
        return [(frame, read_barcode(frame.bgr())) for frame in islice(frames, most)]


def told(found: list[tuple[Frame, int]]) -> list[tuple[int, int, int, int]]:
    return [(frame.time_us, frame.index, frame.connection, number) for frame, number in found]


def test_a_source_says_where_it_is_read_else_the_run_does() -> None:
    cases: list[tuple[Capture | None, Capture, bool]] = [
        (None, "thread", False),
        (None, "process", True),
        ("thread", "process", False),
        ("process", "thread", True),
    ]
    for own, run, isolated in cases:
        source = open_source(SourceConfig(uri="pattern://still", capture=own), capture=run)
        assert isinstance(source, ProcessSource) == isolated
    config = Config.model_validate({"sources": [0, {"uri": "1", "capture": "thread"}], "capture": "process"})
    assert [isinstance(source, ProcessSource) for source in make_sources(config)] == [True, False]


def test_a_file_gives_the_same_frames_as_in_a_thread(write_video: Callable[..., Path], isolated: Open) -> None:
    path = write_video(count=20)
    source = isolated(path, pace="fast")
    assert told(read(source)) == told(read(open_source(SourceConfig(uri=str(path), pace="fast"))))
    assert not children(), "a file that has ended needs no process any more"
    assert len(read(source)) == 20
    assert (source.live, source.path, source.name) == (False, path, "clip")


def test_a_file_at_its_own_pace_is_stamped_with_the_time_of_day(
    write_video: Callable[..., Path], isolated: Open
) -> None:
    before = time.time()
    found = read(isolated(write_video(pts=[0, 3, 6])))
    begin_us = found[0][0].time_us
    assert [frame.time_us - begin_us for frame, _ in found] == [0, 100_000, 200_000]
    assert before - 0.1 <= begin_us / 1e6 <= time.time()


def test_what_a_frame_says_of_its_time_and_its_kind_comes_through() -> None:
    class Told(Source):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            for index in range(3):
                show = partial(np.full, (2, 2, 3), np.uint8(index))
                timeline = Timeline(index, 3_600_000_000 * index)
                yield Frame(index, index, connection, show, 5.0, timeline, index == 1, left_out=index)

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = threading.Thread(
            target=serve, args=(Told(SourceConfig(uri="0")), theirs, mmap.mmap(-1, 64), threading.Event())
        )
        child.start()
        found = []
        for number in range(3):
            ours.send(NEXT if number else b"0")
            answer = msgspec.msgpack.decode(ours.recv(LONGEST), type=Answer)
            found.append((answer.timeline, answer.key, answer.left_out))
        ours.shutdown(socket.SHUT_WR)
        child.join(10)
    assert found == [(Timeline(n, 3_600_000_000 * n), n == 1, n) for n in range(3)]


def test_pictures_are_converted_when_they_are_asked_for(isolated: Open) -> None:
    source = isolated("pattern://swipe?duration=1&size=320x240&fps=10", pace="fast")
    here = open_source(SourceConfig(uri="pattern://swipe?duration=1&size=320x240&fps=10", pace="fast"))
    pairs = zip(source.frames(0, threading.Event()), here.frames(0, threading.Event()), strict=True)
    for number, (there, frame) in enumerate(pairs):
        if number % 3 == 1:
            assert (there.bgr() == frame.bgr()).all()


def test_an_http_camera_in_a_process(http_camera: Callable[[], HttpCamera], isolated: Open) -> None:
    source, before = isolated(http_camera().url()), time.monotonic()
    found = read(source, 5)
    numbers = [number for _, number in found]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    arrivals = [frame.arrived_s or 0.0 for frame, _ in found]
    assert before < arrivals[0] < arrivals[-1] < time.monotonic()
    assert source.noisy


def test_an_rtsp_camera_in_a_process_and_no_password_on_its_command_line(
    rtsp_server: Callable[..., RtspServer], isolated: Open
) -> None:
    server = rtsp_server("--user", "user", "--password", "s3cret")
    source = isolated(server.url("user:s3cret@"))
    with closing(source.frames(0, threading.Event())) as frames:
        assert next(frames).bgr().shape == (128, 160, 3)
        assert b"s3cret" not in Path(f"/proc/{only_child()}/cmdline").read_bytes()


def test_damage_is_counted_over_all_processes(write_video: Callable[..., Path], isolated: Open) -> None:
    path = write_video("clip.avi", count=40, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    for chunk in [i for i in range(len(data)) if data[i : i + 4] == b"00dc"][11:14]:
        data[chunk + 12 : chunk + 14] = b"\x00\x01"
    path.write_bytes(data)
    source = isolated(path, pace="fast")
    assert [number for _, number in read(source)] == [*range(10), *range(13, 40)]
    assert source.corrupt == 3
    read(source)
    assert source.corrupt == 6


def test_an_error_is_the_same_error(tmp_path: Path, isolated: Open) -> None:
    with pytest.raises(SourceError, match=r"missing.mp4: No such file or directory; check the path") as caught:
        read(isolated(f"file:{tmp_path}/missing.mp4"))
    assert caught.value.retry == "never"


def test_a_camera_that_is_away_is_tried_again_by_the_same_process(isolated: Open) -> None:
    source, seen = isolated("http://127.0.0.1:1/cam"), set()
    for _ in range(2):
        with pytest.raises(SourceError, match="connection refused") as caught:
            read(source)
        assert caught.value.retry == "soon"
        seen.add(only_child())
    assert len(seen) == 1
    assert source.crashes == 0


def test_a_reader_that_stops_between_two_connections_leaves_no_process(isolated: Open, wait_for: WaitFor) -> None:
    source, stop = isolated("http://127.0.0.1:1/cam"), threading.Event()
    reader = Reader(source, lambda frame: None, stop)
    thread = threading.Thread(target=reader.run)
    thread.start()
    wait_for(lambda: reader.health(time.monotonic()).state == "offline")
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not children()


def test_a_crash_is_an_error_that_names_the_signal_and_is_mended(
    http_camera: Callable[[], HttpCamera], isolated: Open, caplog: pytest.LogCaptureFixture
) -> None:
    source = isolated(http_camera().url())
    with closing(source.frames(0, threading.Event())) as frames:
        next(frames)
        os.kill(only_child(), signal.SIGSEGV)
        with pytest.raises(SourceError, match="the decoder crashed: SIGSEGV; connecting again") as caught:
            for _ in frames:
                pass
    assert caught.value.retry == "soon"
    assert source.crashes == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Fatal Python error: Segmentation fault" in record.message
    assert "streamer/sources/child.py" in record.message
    assert len(read(source, 3)) == 3


def test_a_crash_while_a_picture_is_asked_for_is_the_same_error(isolated: Open) -> None:
    source = isolated("pattern://swipe")
    with closing(source.frames(0, threading.Event())) as frames:
        frame = next(frames)
        os.kill(only_child(), signal.SIGKILL)
        with pytest.raises(SourceError, match="the decoder crashed: SIGKILL"):
            frame.bgr()


def test_a_file_that_crashes_the_decoder_is_not_tried_again(write_video: Callable[..., Path], isolated: Open) -> None:
    source = isolated(write_video(pts=[0, 30 * 3600]))
    with closing(source.frames(0, threading.Event())) as frames:
        next(frames)
        os.kill(only_child(), signal.SIGABRT)
        with pytest.raises(SourceError, match="crashed: SIGABRT; leave the file out, or convert it") as caught:
            next(frames)
    assert caught.value.retry == "never"


def test_a_process_that_hangs_is_killed(http_camera: Callable[[], HttpCamera], isolated: Open) -> None:
    source = isolated(http_camera().url(), open_s=0.3, read_s=0.2)
    with closing(source.frames(0, threading.Event())) as frames:
        next(frames)
        child = only_child()
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(SourceError, match="the decoder hangs: nothing for 1 s; connecting again"):
            for _ in frames:
                pass
    assert source.crashes == 1
    assert child not in children()


def test_stopping_is_prompt_and_leaves_no_process(
    write_video: Callable[..., Path], isolated: Open, wait_for: WaitFor
) -> None:
    source, stop = isolated(write_video(pts=[0, 30 * 3600])), threading.Event()
    frames = source.frames(0, stop)
    next(frames)
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert next(frames, None) is None
    assert time.monotonic() - began < 10
    assert not children()
