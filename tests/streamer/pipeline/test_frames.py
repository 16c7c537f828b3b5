from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engines import EngineSpec, load_engine, probabilities
from streamer import SourceError, open_frames
from streamer.config import Config, SourceConfig
from streamer.labels.messages import ScoreMessage
from streamer.pipeline.replay import replay
from streamer.sources import open_source
from streamer.types import Image
from tests.streamer.pipeline.seeing import SPEC, picture

CLIP = "pattern://swipe?duration=3&fps=30"


def spec(**changes: Any) -> EngineSpec:
    return msgspec.structs.replace(SPEC, **changes)


def pictures(count: int, fps: float = 30, shape: tuple[int, ...] = (24, 32, 3)) -> Iterator[tuple[float, Image]]:
    for index in range(count):
        yield 100 + index / fps, np.full(shape, index, np.uint8)


def test_a_model_of_ones_own_loop_says_what_a_replay_says() -> None:
    engine = load_engine("default", "openvino", threads=1)
    state = engine.new_state(rows=1)
    mine = []
    for frame in open_frames(CLIP, engine.spec):
        logits, ready = engine.step(*frame.inputs, state)
        if ready[0]:
            mine.append((round(frame.time_s * 1e6), float(probabilities(logits)[0].max())))
    told: list[tuple[int | None, float]] = []

    def hear(message: Any) -> None:
        if isinstance(message, ScoreMessage):
            told.append((message.ts.frame_us, message.topk[0][1]))

    replay(open_source(SourceConfig(uri=CLIP, pace="fast")), engine, Config(), hear)
    engine.close()
    assert [at for at, _ in mine] == [at for at, _ in told]
    np.testing.assert_allclose([score for _, score in mine], [score for _, score in told], atol=1e-5)
    assert len(mine) > 10


def test_frames_come_at_the_models_rate_in_its_size_and_the_first_is_fresh(write_video: Callable[..., Path]) -> None:
    frames = list(open_frames(write_video(count=30), spec(height=48, width=64)))
    assert len(frames) == 10
    assert all(0.09 < after.time_s - before.time_s < 0.11 for before, after in pairwise(frames))
    assert {(frame.inputs[0].shape, frame.inputs[0].dtype.name) for frame in frames} == {((1, 48, 64, 3), "uint8")}
    assert [bool(frame.inputs[2][0]) for frame in frames] == [True, *[False] * 9]
    assert all(frame.inputs[1].all() for frame in frames)


def test_frames_may_be_kept() -> None:
    frames = list(open_frames(pictures(6, fps=10), SPEC, order="bgr"))
    assert [int(frame.inputs[0].mean()) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [frame.time_s for frame in frames] == pytest.approx([100, 100.1, 100.2, 100.3, 100.4, 100.5])


def test_colours_are_ordered_as_the_network_was_trained() -> None:
    blue = np.zeros((24, 32, 3), np.uint8)
    blue[..., 0] = 255
    for given, order in ((blue, "bgr"), (blue[..., ::-1], "rgb")):
        (frame,) = open_frames([(0.0, given)], SPEC, order=order)  # type: ignore[arg-type]
        assert frame.inputs[0][0, 0, 0].tolist() == [255, 0, 0]


def test_the_order_of_colours_is_asked_for_and_not_guessed() -> None:
    for order in (None, "gbr"):
        with pytest.raises(SourceError, match=r"say how their colours are ordered: order='bgr' \(OpenCV\)"):
            open_frames([(0.0, picture(1))], SPEC, order=order)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="a file's colours are known"):
        open_frames(CLIP, SPEC, order="rgb")


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((24, 32), np.uint8), np.zeros((24, 32, 4), np.uint8), np.zeros((3, 24, 32), np.uint8),
        np.zeros((24, 32, 3), np.float32), np.zeros((0, 32, 3), np.uint8), None, "picture",
    ],
    ids=str,
)  # fmt: skip
def test_pictures_of_another_form_are_an_error(wrong: Any) -> None:
    with pytest.raises(SourceError, match=r"number 1 is .*, but a picture is uint8 \[height, width, 3\]"):
        list(open_frames([(0.0, picture(1)), (0.1, wrong)], SPEC, order="bgr"))


def test_times_that_do_not_advance_are_an_error() -> None:
    with pytest.raises(SourceError, match="number 1 is at 5 s, but the one before it at 5 s"):
        list(open_frames([(5.0, picture(1)), (5.0, picture(1))], SPEC, order="bgr"))


def test_what_is_no_pair_of_a_time_and_a_picture_is_an_error() -> None:
    for pair in (picture(1), (float("nan"), picture(1)), ("1", picture(1)), 5):
        with pytest.raises(SourceError, match="number 0 is no pair of a time in seconds and a picture"):
            list(open_frames([pair], SPEC, order="bgr"))  # type: ignore[list-item]


def test_after_lost_time_the_state_starts_anew() -> None:
    pairs = [(at, picture(1)) for at in (0.0, 0.1, 0.2, 9.0, 9.1)]
    assert [bool(frame.inputs[2][0]) for frame in open_frames(pairs, SPEC, order="bgr")] == [
        True,
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(("fps", "told"), [(4, "4 frames a second, the model takes 10"), (0.5, "no frame for 2 s")])
def test_too_low_a_rate_is_told_once(fps: float, told: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        list(open_frames(pictures(40, fps), SPEC, order="bgr"))
    assert [told in record.getMessage() for record in caplog.records] == [True]


def test_what_is_live_or_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    for live in ("rtsp://127.0.0.1/x", 0, "pattern://swipe"):
        with pytest.raises(SourceError, match="is live; `streamer run` recognises in it"):
            open_frames(live, SPEC)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="there is no such file"):
        open_frames(tmp_path / "none.mp4", SPEC)


def test_importing_it_loads_no_library_for_video() -> None:
    code = "import sys; from streamer import open_frames; print({'cv2', 'av', 'openvino', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
