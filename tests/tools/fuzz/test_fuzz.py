"""The fuzzer: it is the same each time, finds nothing in a few seconds, and finds what is there to be found."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.config import SourceConfig
from streamer.sources.base import Source
from streamer.types import Frame
from tools.fuzz import hunt as hunting
from tools.fuzz.child import Check
from tools.fuzz.damage import DAMAGES, Damage, damaged
from tools.fuzz.hunt import hunt, keep, report
from tools.fuzz.seeds import Seed, huge_parameters, make_seeds


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return make_seeds()


def test_an_input_is_the_same_each_time_and_another_for_another_seed(seeds: list[Seed]) -> None:
    inputs = range(len(seeds), len(seeds) + 50)
    first = [damaged(seeds, 1, number) for number in inputs]
    assert first == [damaged(seeds, 1, number) for number in inputs]
    assert first != [damaged(seeds, 2, number) for number in inputs]
    whole = {seed.name: seed.parts for seed in seeds}
    assert sum(medium.parts != whole[medium.name] for medium, _ in first) > 40


@pytest.mark.parametrize("damage", sorted(set(DAMAGES), key=str), ids=lambda damage: damage.__name__)
def test_every_damage_works_on_the_smallest_piece(damage: Damage) -> None:
    for seed in range(20):
        damage(bytearray(b"\x47"), random.Random(seed))


def test_a_few_inputs_of_all_kinds_do_no_harm(seeds: list[Seed]) -> None:
    count = len(seeds) + 40
    seen = hunt(seed=3, seconds=90, inputs=range(count), jobs=1)
    figures = report(3, 1.0, seen)
    assert figures["findings"] == []
    assert [one.number for one in seen] == list(range(len(seen)))
    assert len(seen) > len(seeds), "the machine is too busy for even one damaged input"
    files = sum(seed.via == "file" for seed in seeds)
    assert [(one.frames, one.corrupt) for one in seen[:files]] == [(seed.frames, 0) for seed in seeds[:files]]
    assert all(one.frames > 0 for one in seen[files : len(seeds)]), "a camera gave nothing"
    assert figures["media"].keys() == {seed.name for seed in seeds}


FAULTY = """
import ctypes, time
from streamer.sources import video

decode = video.decode

def faulty(container, *rest, **more):
    if container.name.endswith("h264.mp4"):
        ctypes.string_at(0)
    if container.name.endswith("h264.mkv"):
        time.sleep(600)
    if container.name.endswith("h264.ts"):
        raise KeyError("nothing")
    yield from decode(container, *rest, **more)

video.decode = faulty
"""


def test_a_crash_a_hang_and_a_foreign_error_are_found_and_kept(
    tmp_path: Path, seeds: list[Seed], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)]))
    monkeypatch.setattr(hunting, "HANG_S", 15.0)
    monkeypatch.setattr(hunting, "_NICENESS", 0)
    seen = hunt(seed=0, seconds=60, inputs=range(4), jobs=1)
    assert [(one.medium, one.outcome) for one in seen] == [
        ("h264.mp4", "crash"),
        ("h264.mkv", "hang"),
        ("h264.ts", "error"),
        ("h264.flv", "read"),
    ]
    assert seen[0].detail.startswith("SIGSEGV\nFatal Python error: Segmentation fault")
    assert "in faulty" in seen[0].detail
    assert "in faulty" in seen[1].detail
    assert "KeyError: 'nothing'" in seen[2].detail
    keep(tmp_path / "kept", 0, seen)
    assert (tmp_path / "kept" / "0-0-crash-0-h264.mp4").read_bytes() == seeds[0].parts[0]
    assert json.loads((tmp_path / "kept" / "0-2-error.json").read_text())["medium"] == "h264.ts"
    assert len(list((tmp_path / "kept").iterdir())) == 6


class Wrong(Source):
    """Gives these frames (time in microseconds, index, connection)."""

    def __init__(self, *frames: tuple[int, int, int]) -> None:
        super().__init__(SourceConfig(uri="wrong"))
        self._frames = frames

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for frame in self._frames:
            yield Frame(*frame, lambda: np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([(0, 0, 0), (1, 1, 0)], ""),
        ([(0, 0, 0), (0, 1, 0)], "time 0 is followed by 0"),
        ([(0, 0, 0), (2**60, 1, 0)], f"time 0 is followed by {2**60}"),
        ([(0, 0, 0), (1, 2, 0)], "frame 1 is numbered 2"),
        ([(0, 0, 1)], "connection 0 is numbered 1"),
    ],
)
def test_frames_that_contradict_each_other_are_noticed(frames: list[tuple[int, int, int]], problem: str) -> None:
    check = Check()
    check.read(Wrong(*frames), connection=0)
    assert check.problem == problem


def test_a_claimed_size_is_what_a_decoder_reads(seeds: list[Seed]) -> None:
    (raw,) = (seed.parts[0] for seed in seeds if seed.name == "raw.h264")
    own = next(unit for unit in raw.split(b"\0\0\1") if unit and unit[0] & 31 == 7).rstrip(b"\0")
    claimed = raw.replace(own, huge_parameters(320, 240))
    with av.open(io.BytesIO(claimed), format="h264") as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (320, 240)
