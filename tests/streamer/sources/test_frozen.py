from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamer.config import Config
from streamer.labels.messages import EventMessage, GapMessage, StateMessage, StatusMessage
from streamer.sources import frozen as watched
from streamer.sources import open_source
from streamer.types import Frame, Image

from ..pipeline.test_load import RealCamera
from ..pipeline.test_pipeline import Run

WaitFor = Callable[[Callable[[], Any]], None]


class Frozen(watched.Frozen):
    """Sees whole pictures."""

    def see(self, seen: Image, now_s: float, key: bool = True, whole: Callable[[], Image] | None = None) -> bool:
        return super().see(seen, now_s, key, whole or (lambda: seen))


def grey(value: int, at: tuple[int, int] | None = None) -> Image:
    image = np.full((48, 64, 3), 100, np.uint8)
    if at:
        image[at] = value
    return image


def test_the_same_picture_for_the_limit_is_frozen_until_the_first_other_one() -> None:
    frozen = Frozen(limit_s=2)
    seen = [frozen.see(grey(0), now_s=100 + n / 10) for n in range(30)]
    assert seen == [False] * 20 + [True] * 10
    assert round(frozen.for_s, 3) == 2.9
    assert not frozen.see(grey(1, at=(0, 0)), now_s=103)
    assert not frozen


@pytest.mark.parametrize("at", [(0, 0), (47, 63), (13, 7), (16, 40)])
def test_one_pixel_that_differs_is_a_live_camera(at: tuple[int, int]) -> None:
    frozen = Frozen(limit_s=1)
    assert not any(frozen.see(grey(100 + n % 2, at), now_s=n / 10) for n in range(100))


def smart(key_s: float, frozen: bool) -> list[tuple[float, bool]]:
    """How long a picture has been the same, and whether it is frozen, at 10 a second for 200 s: an encoder that says
    nothing between its key frames, which differ unless the camera is frozen.
    """
    frozen_, found = Frozen(limit_s=10), []
    for number in range(2000):
        key = number % round(10 * key_s) == 0
        shown = 0 if frozen else number // round(10 * key_s)
        found.append((number / 10, frozen_.see(grey(shown, at=(5, 5)), now_s=number / 10, key=key)))
    return found


@pytest.mark.parametrize("key_s", [1, 12, 20, 60, 95])
def test_a_still_camera_that_says_nothing_between_key_frames_is_not_frozen(key_s: float) -> None:
    assert not any(frozen for _, frozen in smart(key_s, frozen=False))


@pytest.mark.parametrize(("key_s", "since_s"), [(0.1, 10), (2, 10), (12, 12), (60, 60), (1000, 100)])
def test_a_frozen_camera_is_known_by_the_key_frame_that_shows_the_same_again(key_s: float, since_s: float) -> None:
    assert next(at_s for at_s, frozen in smart(key_s, frozen=True) if frozen) == pytest.approx(since_s, abs=0.11)


def test_a_key_frame_that_the_model_does_not_want_counts(wait_for: WaitFor) -> None:
    """The camera has 30 frames a second, and only the second of three, which is not taken, is a key frame."""

    class Smart(RealCamera):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            for frame in super().frames(connection, stop):
                yield replace(frame, key=frame.index % 30 == 1)

    camera = Smart()
    camera.frozen.set()
    run = Run([camera], Config(frozen_s=0.5))
    wait_for(lambda: run.said(StatusMessage, source="stalled"))
    run.finish()


def test_silence_between_two_pictures_that_are_the_same_counts_little() -> None:
    frozen = Frozen(limit_s=10)
    assert [frozen.see(grey(0), now_s=100.0 * n) for n in range(12)] == [False] * 10 + [True] * 2


def test_a_new_connection_is_wanted_after_three_limits_and_again_after_three_more() -> None:
    frozen, wanted = Frozen(limit_s=2), []
    for tenth in range(200):
        frozen.see(grey(0), now_s=tenth / 10)
        if frozen.wants_connection():
            wanted.append(tenth / 10)
    assert wanted == pytest.approx([6, 12, 18], abs=0.11)


def test_a_camera_that_repeats_its_last_picture_is_stalled_and_its_label_does_not_stay(wait_for: WaitFor) -> None:
    camera = RealCamera()
    camera.label = 2
    run = Run([camera], Config(frozen_s=0.5))
    wait_for(lambda: run.said(StateMessage, label="light"))
    camera.frozen.set()
    wait_for(lambda: run.said(StatusMessage, source="stalled"))
    status = run.said(StatusMessage, source="stalled")[0]
    assert "test://camera: frozen: the very same picture for" in status.detail
    assert status.detail.endswith("; frozen_s is 0.5")
    assert run.said(EventMessage)[-1].reason == "gap"
    assert run.said(StateMessage)[-1].label is None
    wait_for(lambda: run.said(StatusMessage, source="offline"))
    assert "connecting again" in run.said(StatusMessage, source="offline")[0].detail
    assert run.said(StateMessage)[-1].label is None
    camera.frozen.clear()
    wait_for(lambda: run.said(StatusMessage)[-1].source == "online")
    wait_for(lambda: run.said(GapMessage, epoch=1))
    wait_for(lambda: run.said(EventMessage)[-1].type == "start" and run.said(EventMessage)[-1].epoch >= 1)
    summary = run.finish()
    assert summary.reconnects >= 1
    assert summary.dropped["frozen"] > 0
    counted = summary.inferred + sum(summary.dropped.values())
    assert summary.captured - Config().buffer <= counted <= summary.captured


def test_what_is_no_camera_may_stand_still_and_so_may_one_that_is_allowed_to(wait_for: WaitFor) -> None:
    camera = RealCamera()
    camera.frozen.set()
    for source, config in (
        (open_source(Config(sources=("pattern://still?size=64x48",)).sources[0]), Config(frozen_s=0.2)),  # type: ignore[arg-type]
        (camera, Config(frozen_s=None)),
    ):
        run = Run([source], config)
        wait_for(lambda run=run: run.pipeline.streams[0].inferred > 10)  # type: ignore[misc]
        assert run.finish().dropped.get("frozen", 0) == 0
