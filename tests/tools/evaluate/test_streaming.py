"""The measuring of streams: engines whose answers are known get exactly the figures that follow from them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.backends.scripted import ScriptedEngine
from engines.training.feed import IGNORE
from streamer.config import Config, EventConfig
from streamer.tuning.matching import Segment
from tests.streamer.pipeline.seeing import LABELS as GREYS
from tests.streamer.pipeline.seeing import SPEC, Film, SeeingEngine
from tests.tools.sets import write_video
from tools.errors import ToolError
from tools.evaluate.streaming import Scenes, StreamReport, Truth, measure_stream, open_recording, read_truth, runs
from tools.motion.paths import LABELS

DRAWN = msgspec.structs.replace(SPEC, labels=LABELS, height=24, width=32, name="drawn")
PROMPT = EventConfig(smoothing_s=0, enter_s=0, leave_s=0, merge_gap_s=0, refractory_s=0, background=("dark",))
FILM = [(0, 1.0), (2, 2.0), (0, 1.0), (3, 1.5), (1, 1.5), (0, 1.0)]  # (grey, seconds): 8 s


class LateEngine(SeeingEngine):
    """Sees everything some steps later."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._waiting = [np.zeros((1, SPEC.height, SPEC.width, 3), np.uint8)] * steps

    def _step(self, frames: NDArray[np.uint8], *others: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self._waiting.append(frames.copy())
        return super()._step(self._waiting.pop(0), *others)


def film_of(story: Sequence[tuple[int, float]]) -> tuple[Film, Truth]:
    """A film that shows greys for some time each at 10 frames/s, and its truth."""
    ends = np.cumsum([seconds for _, seconds in story]).round(6).tolist()
    starts = [0.0, *ends[:-1]]
    truth = Truth([Segment(GREYS[grey], *span) for (grey, _), *span in zip(story, starts, ends, strict=True)])

    def scene(time_s: float) -> int:
        return next(grey for (grey, _), end in zip(story, ends, strict=True) if time_s < end)

    return Film(scene, [n / 10 for n in range(round(ends[-1] * 10))]), truth


def measured(engine: SeeingEngine, events: EventConfig = PROMPT) -> StreamReport:
    return measure_stream(engine, Config(events=events), [film_of(FILM)])


def test_an_oracle_is_right_at_once() -> None:
    report = measured(SeeingEngine())
    assert report.matching.f1 == 1
    assert len(report.matching.hits) == 3  # the background makes no event, and none is expected of it
    assert report.matching.delay_s(100) == 0
    assert report.ages.accuracy == 1
    assert report.confusion.diagonal().tolist() == [
        30 - 3,
        15,
        20,
        15,
    ]  # the first 3 answers of the stream do not count
    assert report.minutes == pytest.approx(8 / 60)
    assert report.false_per_minute == 0


def test_the_default_rules_take_their_time() -> None:
    report = measured(SeeingEngine(), EventConfig(background=("dark",)))
    assert report.matching.f1 == 1
    # 0.3 s of smoothing reach 0.6 at the third frame, and enter_s wants two more
    assert report.matching.delay_s(50) == pytest.approx(0.4)


def test_an_engine_that_lags_is_late_by_its_lag_and_wrong_for_so_long() -> None:
    report = measured(LateEngine(3))
    assert report.matching.f1 == 1
    assert [report.matching.delay_s(percent) for percent in (0, 100)] == pytest.approx([0.3, 0.3])
    asked, right = report.ages.asked.tolist(), report.ages.right.tolist()
    assert asked[:5] == [5, 5, 5, 6, 6]
    assert right[:5] == [0, 0, 0, 6, 6]


def test_an_engine_that_lags_too_much_has_missed_what_it_says() -> None:
    report = measured(LateEngine(30))
    assert report.matching.hits == ()
    assert len(report.matching.missed) == 3
    assert report.false_per_minute == pytest.approx(len(report.matching.false) / 8 * 60)
    assert report.matching.false


def test_events_of_the_background_are_expected_when_it_is_none() -> None:
    report = measured(SeeingEngine(), PROMPT.model_copy(update={"background": ()}))
    assert len(report.matching.hits) == 6


def test_a_model_with_a_hop_is_asked_only_where_it_answers() -> None:
    report = measured(SeeingEngine(hop=5))
    assert report.confusion.sum() == len(range(3, 80, 5))
    assert report.matching.f1 == 1


def test_two_recordings_are_counted_together() -> None:
    report = measure_stream(SeeingEngine(), Config(events=PROMPT), [film_of(FILM), film_of(FILM[:3])])
    assert len(report.matching.hits) == 4
    assert report.minutes == pytest.approx(12 / 60)


def test_a_frame_at_which_nobody_can_tell_is_not_asked_for() -> None:
    film, truth = film_of(FILM)
    truth.unknown_us.update({1_000_000, 1_100_000})
    report = measure_stream(SeeingEngine(), Config(events=PROMPT), [(film, truth)])
    assert report.confusion.sum() == 80 - 3 - 2


# --------------------------------------------------------------------------------------------------- drawn scenes


def test_a_motion_begins_after_the_last_frame_of_the_one_before() -> None:
    labels = np.array([IGNORE, IGNORE, 0, 0, IGNORE, IGNORE, 3, 3, IGNORE, 3, IGNORE, 0, IGNORE])
    assert list(runs(labels)) == [(0, 0, 4), (3, 4, 10), (0, 10, 13)]


@given(st.lists(st.sampled_from([IGNORE, 0, 1, 2]), min_size=1).filter(lambda labels: any(x >= 0 for x in labels)))
def test_every_frame_is_in_one_motion_and_neighbours_differ(labels: list[int]) -> None:
    found = list(runs(np.array(labels)))
    assert [start for _, start, _ in found] == [0, *(end for _, _, end in found[:-1])]
    assert found[-1][2] == len(labels)
    for label, start, end in found:
        assert set(labels[start:end]) - {IGNORE} == {label}
    assert all(one[0] != other[0] for one, other in pairwise(found))


def shown(scenes: Scenes) -> list[tuple[int, int, bytes]]:
    return [(frame.time_us, frame.connection, frame.bgr().tobytes()) for frame in scenes.frames(0, threading.Event())]


def test_scenes_fill_the_minutes_and_are_the_same_for_the_same_seed() -> None:
    frames = shown(Scenes(DRAWN, 0.4, seed=1))
    assert [time_us for time_us, _, _ in frames] == [100_000 * n for n in range(240)]
    assert [connection for _, connection, _ in frames] == [0] * 120 + [1] * 120
    assert frames == shown(Scenes(DRAWN, 0.4, seed=1))
    assert frames != shown(Scenes(DRAWN, 0.4, seed=2))


@pytest.mark.parametrize(("fps", "shown_of_a_second"), [(10, 10), (5, 5), (3, 3), (60, 10)])
def test_a_slower_camera_shows_some_frames_of_the_same_scenes(fps: float, shown_of_a_second: int) -> None:
    all_frames = shown(Scenes(DRAWN, 0.4, seed=1))
    frames = shown(Scenes(DRAWN, 0.4, seed=1, fps=fps))
    assert len(frames) == 24 * shown_of_a_second
    assert set(frames) <= set(all_frames)
    longest = max(after - before for (before, _, _), (after, _, _) in pairwise(frames))
    assert longest <= 1e6 / shown_of_a_second + 100_000


def test_a_scene_begins_still_and_the_truth_has_no_holes() -> None:
    scenes = Scenes(DRAWN, 0.4, seed=1)
    times = [time_us for time_us, _, _ in shown(scenes)]
    segments = scenes.truth.segments
    assert [segment.label for segment in segments if segment.start_s in (0, 12)] == ["still", "still"]
    assert [segment.start_s for segment in segments] == [0, *(segment.end_s for segment in segments[:-1])]
    assert segments[-1].end_s == 24
    known = [scenes.truth.at(time_us) is not None for time_us in times]
    assert known.count(False) == len(scenes.truth.unknown_us)
    assert 0.6 < np.mean(known) < 1
    assert scenes.truth.at(24_000_000) is None


def test_an_oracle_names_every_drawn_motion() -> None:
    scenes = Scenes(DRAWN, 0.2, seed=1)
    answers = [0]
    for time_us, _, _ in shown(scenes):
        segment = scenes.truth.at(time_us)
        answers.append(LABELS.index(segment.label) if segment else answers[-1])
    oracle = ScriptedEngine(DRAWN, np.eye(len(LABELS), dtype=np.float32)[answers[1:]])
    again = Scenes(DRAWN, 0.2, seed=1)
    report = measure_stream(oracle, Config(events=EventConfig(background=("still",))), [(again, again.truth)])
    assert report.ages.accuracy == 1
    assert report.matching.f1 == 1
    assert len(report.matching.hits) > 2


def test_a_cut_between_scenes_starts_the_network_anew() -> None:
    scenes = Scenes(DRAWN, 0.4, seed=1)
    engine = SeeingEngine()
    engine.spec = msgspec.structs.replace(DRAWN, labels=GREYS)
    measure_stream(engine, Config(), [(scenes, Truth())])
    assert [index for index, (fresh,) in enumerate(engine.fresh) if fresh] == [0, 120]


def test_drawn_scenes_measure_only_models_that_know_the_motions() -> None:
    with pytest.raises(ToolError, match=r"seeing has no label 'still'.* it knows dark, dim, light, bright"):
        Scenes(SPEC, 1, seed=0)


# ----------------------------------------------------------------------------------------------------- recordings


def test_a_video_file_is_measured_by_the_segments_beside_it(tmp_path: Path) -> None:
    film, truth = film_of(FILM)
    write_video(tmp_path / "film.mp4", [frame.bgr() for frame in film.frames(0, threading.Event())], fps=10)
    rows = [f"{segment.label},{segment.start_s},{segment.end_s}\n" for segment in truth.segments[1:]]
    (tmp_path / "film.csv").write_text("".join(["label,start_s,end_s\n", *rows]), encoding="utf-8")
    source, read = open_recording(tmp_path / "film.mp4", GREYS)
    assert read.segments == truth.segments[1:]
    report = measure_stream(SeeingEngine(), Config(events=PROMPT), [(source, read)])
    assert report.matching.f1 == 1
    assert report.confusion.sum() == 70  # nothing is said about the first second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,start_s,end_s\nbrigth,0,1\n", r"truth\.csv, line 2: the model has no label 'brigth'; it knows dark"),
        ("label,start_s,end_s\ndark,0,2\ndim,1,3\n", r"line 3: a segment must begin at or after 2 s and end later"),
        ("label,start_s,end_s\ndark,2,1\n", r"line 2: a segment must begin at or after 0 s and end later"),
        ("label,start_s,end_s\ndark,0,nan\n", r"line 2: a segment must begin"),
        ("label,start_s,end_s\ndark,zero,1\n", r"not a CSV file with the columns label, start_s and end_s"),
        ("label,start_s,end_s\ndark,0\n", r"not a CSV file with the columns"),
        ("label,from,to\ndark,0,1\n", r"not a CSV file with the columns .*start_s"),
        ("label,start_s,end_s\n", r"has no segment"),
    ],
)
def test_a_bad_file_of_segments_says_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ToolError, match=message):
        read_truth(path, GREYS)


def test_missing_segments_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"truth\.csv: cannot be read: No such file"):
        read_truth(tmp_path / "truth.csv", GREYS)
