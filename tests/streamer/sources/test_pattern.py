from __future__ import annotations

import re
import threading
import time
from itertools import islice, pairwise
from typing import Literal

import cv2
import numpy as np
import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.pattern import PatternSource
from streamer.types import Image

LABELS = {
    "still",
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "approaching",
    "receding",
    "turning clockwise",
    "turning counterclockwise",
    "shaking",
}


def pattern(uri: str, pace: Literal["realtime", "fast"] = "fast") -> PatternSource:
    return PatternSource(SourceConfig(uri=uri, pace=pace))


def pictures(source: PatternSource, count: int) -> list[tuple[int, Image]]:
    """(time in microseconds, picture) of the first frames."""
    frames = source.frames(0, threading.Event())
    found = [(frame.time_us, frame.bgr()) for frame in islice(frames, count)]
    frames.close()
    return found


def test_the_picture_has_the_size_and_rate_asked_for() -> None:
    found = pictures(pattern("pattern://swipe?fps=25&size=320x200"), 3)
    assert [time_us for time_us, _ in found] == [0, 40_000, 80_000]
    assert {image.shape for _, image in found} == {(200, 320, 3)}


def test_the_seed_makes_the_picture() -> None:
    one, again, other = (pictures(pattern(f"pattern://swipe?seed={seed}"), 40)[-1][1] for seed in (1, 1, 2))
    assert (one == again).all()
    assert np.abs(one.astype(int) - other).mean() > 10


def test_the_script_shows_every_motion_for_one_to_three_seconds_between_pauses() -> None:
    source = pattern("pattern://swipe")
    labels = [source.truth(time_us) for time_us in range(0, 40_000_000, 10_000)]
    assert set(labels) == LABELS
    changes = [0, *[i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]]
    lengths = [(labels[a], (b - a) / 100) for a, b in pairwise(changes)]
    assert all(0.75 <= seconds <= 0.85 for label, seconds in lengths if label == "still")
    assert all(1.0 <= seconds <= 3.0 for label, seconds in lengths if label != "still")
    assert {label for label, seconds in lengths if seconds >= 1.95} == LABELS - {
        "still",
        "moving left",
        "moving up",
    }


def test_twenty_seconds_show_many_motions() -> None:
    source = pattern("pattern://swipe")
    assert len({source.truth(time_us) for time_us in range(0, 20_000_000, 100_000)}) >= 7


def test_the_object_stays_in_the_picture_and_returns_to_where_it_began() -> None:
    found = pictures(pattern("pattern://swipe?fps=10&size=160x120"), 302)
    first = found[0][1]
    for time_us, image in found:
        for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            assert (image[side] == first[side]).all(), f"at {time_us} us the object touches the border"
    assert any((image == first).all() for time_us, image in found if time_us > 27_000_000), "it did not return"


def flow_at(time_s: float) -> tuple[float, float, float, float]:
    """How the picture moves at a time of the script: (right, down, growth, turn clockwise), of the pixels that move."""
    fps = 20
    found = pictures(pattern(f"pattern://swipe?fps={fps}&size=160x120&seed=3"), round(time_s * fps) + 2)
    before, after = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for _, image in found[-2:])
    flow = cv2.calcOpticalFlowFarneback(before, after, np.zeros((120, 160, 2), np.float32), 0.5, 3, 15, 5, 5, 1.1, 0)
    moving = np.linalg.norm(flow, axis=2) > 0.3
    if moving.sum() < 50:
        return 0.0, 0.0, 0.0, 0.0
    y, x = np.nonzero(moving)
    x, y = x - x.mean(), y - y.mean()
    u, v = flow[moving].T
    area = (x * x + y * y).mean()
    return float(u.mean()), float(v.mean()), float((x * u + y * v).mean() / area), float((x * v - y * u).mean() / area)


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [
        ("moving left", 0, -1),
        ("moving right", 0, 1),
        ("moving up", 1, -1),
        ("moving down", 1, 1),
        ("approaching", 2, 1),
        ("receding", 2, -1),
        ("turning clockwise", 3, 1),
        ("turning counterclockwise", 3, -1),
    ],
)
def test_the_picture_moves_as_the_truth_says(label: str, axis: int, sign: int) -> None:
    source = pattern("pattern://swipe")
    times = [time_us / 1e6 for time_us in range(0, 30_000_000, 50_000) if source.truth(time_us) == label]
    flow = flow_at(times[len(times) // 2])
    clear = (1.0, 1.0, 0.01, 0.02)  # pixels per frame; per frame
    assert sign * flow[axis] > clear[axis]
    for other in {0, 1, 2, 3} - {axis}:
        assert abs(flow[other]) < 0.5 * abs(flow[axis]) * clear[other] / clear[axis]


def test_shaking_goes_to_and_fro_and_still_is_still() -> None:
    source = pattern("pattern://swipe")
    shaking = [time_us / 1e6 for time_us in range(0, 30_000_000, 50_000) if source.truth(time_us) == "shaking"]
    rights = [flow_at(time_s)[0] for time_s in shaking[2:18]]
    assert sum(a * b < 0 for a, b in pairwise(rights)) >= 3  # 2.5 Hz turn round 5 times a second
    assert flow_at(0.4) == (0, 0, 0, 0)


def test_still_never_moves() -> None:
    source = pattern("pattern://still?size=64x48")
    found = pictures(source, 90)
    assert all((image == found[0][1]).all() for _, image in found)
    assert {source.truth(time_us) for time_us, _ in found} == {"still"}


def test_a_duration_ends_it_like_a_file() -> None:
    source = pattern("pattern://swipe?fps=10&duration=2.5&size=64x48")
    assert len(list(source.frames(0, threading.Event()))) == 25
    assert not source.live
    assert pattern("pattern://swipe", "realtime").live


def test_realtime_is_paced_and_stamped_like_a_camera() -> None:
    source = pattern("pattern://swipe?fps=20&size=64x48&duration=0.5", "realtime")
    seen = [(frame.time_us / 1e6, time.time()) for frame in source.frames(3, threading.Event())]
    assert all(captured <= arrived + 0.005 for captured, arrived in seen), "a frame came before its time"
    assert seen[-1][0] - seen[0][0] == pytest.approx(0.45, abs=1e-5)
    assert source.truth(round(seen[0][0] * 1e6)) == "still"


def test_stop_ends_it_at_once() -> None:
    stop = threading.Event()
    frames = pattern("pattern://swipe?fps=0.01&size=64x48", "realtime").frames(0, stop)
    next(frames)
    threading.Timer(0.1, stop.set).start()
    assert next(frames, None) is None


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pattern://swap", "the patterns are swipe, still"),
        ("pattern://swipe/fast", "the patterns are swipe, still"),
        ("pattern://swipe?speed=2", "unknown parameter 'speed'; there are fps, size, seed and duration"),
        ("pattern://swipe?fps=fast", "fps is 'fast'; give a positive number"),
        ("pattern://swipe?fps=0", "fps is 0"),
        ("pattern://swipe?fps=", "fps is ''"),
        ("pattern://swipe?size=640", "size is '640'; give WIDTHxHEIGHT"),
        ("pattern://swipe?size=0x0", "size is '0x0'"),
        ("pattern://swipe?seed=-1", "seed is '-1'"),
        ("pattern://swipe?duration=nan", "duration is 'nan'"),
        ("pattern://swipe?duration=99999999", "duration is 99999999; give a number from 0.01 to 1e+06"),
        ("pattern://swipe?fps=1000000", "fps is 1000000; give a number from 0.01 to 240"),
        ("pattern://swipe?size=9999x9999", "size is 9999x9999; 1920x1080 is the largest"),
        ("pattern://swipe?size=9999x300", "size is 9999x300; 1920x1080 is the largest"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(uri: str, words: str) -> None:
    with pytest.raises(SourceError, match=re.escape(words)) as caught:
        pattern(uri)
    assert caught.value.retry == "never"
