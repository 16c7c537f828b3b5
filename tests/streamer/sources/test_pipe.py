"""Pipes and standard input as files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.errors import SourceError

from .test_file import read, source_of

WriteVideo = Callable[..., Path]


def test_a_pipe_is_read_to_its_end(tmp_path: Path, write_video: WriteVideo) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(write_video("clip.ts").read_bytes()))
    writer.start()
    assert [number for _, number in read(source_of(pipe))] == list(range(20))
    writer.join()


def test_a_pipe_that_nobody_writes_to_is_left_when_it_is_told_to_stop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert read(source_of(tmp_path / "pipe"), stop) == []


def test_a_pipe_of_something_else_is_no_video(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(bytes(1000)))
    writer.start()
    with pytest.raises(SourceError, match=r"not a video.*a pipe cannot be rewound, send \.ts"):
        read(source_of(pipe))
    writer.join()


@pytest.mark.parametrize("capture", ["thread", "process"])
def test_standard_input_is_read(write_video: WriteVideo, capture: str) -> None:
    source = "import threading; from streamer.config import SourceConfig; from streamer.sources import open_source\n"
    source += f"source = open_source(SourceConfig(uri='-', pace='fast', capture={capture!r}))\n"
    source += "print(source.name, len(list(source.frames(0, threading.Event()))))"
    data = write_video("clip.mkv").read_bytes()
    done = subprocess.run([sys.executable, "-c", source], input=data, capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"stdin", b"20"]
