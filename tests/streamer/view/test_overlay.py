from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines import find_models, load_engine
from streamer.labels.events import Event, State
from streamer.labels.messages import MessageBuilder
from streamer.view.colours import COLOURS, colour
from streamer.view.overlay import Overlay, outlined

from ..labels.peers import STAMP
from .peers import picture

NOW_US = STAMP.frame_us or 0


def bgr(label: str) -> list[int]:
    return list(reversed(bytes.fromhex(colour(label)[1:])))


def test_the_labels_of_the_shipped_model_have_different_colours() -> None:
    assert find_models()
    labels = load_engine("default", "scripted").spec.labels
    assert len({colour(label) for label in labels}) == len(labels)


@given(st.text())
def test_every_label_has_a_colour(label: str) -> None:
    assert colour(label) in COLOURS


def test_the_label_and_its_events_are_drawn_in_its_colour_and_the_picture_is_left_alone() -> None:
    build = MessageBuilder("test@0", "stream")
    overlay, image = Overlay(), picture(120)
    without = overlay.draw(image, NOW_US)
    overlay(build.state("cam", STAMP, State("wave", 1, 0.75, NOW_US)))
    overlay(build.event("cam", STAMP, Event("start", "wave", 1, 0.9, 0.9, NOW_US - 30_000_000)))
    drawn = overlay.draw(image, NOW_US)
    assert (image == 120).all()
    coloured = (drawn == bgr("wave")).all(axis=2)
    assert not (without == bgr("wave")).all(axis=2).any()
    strip = np.flatnonzero(coloured.sum(axis=1) > 200)  # rows in which the event's span runs over half of the picture
    assert len(strip) > 15
    columns = np.flatnonzero(coloured[strip[0]])
    assert abs(columns[0] - 320) < 5
    assert columns[-1] > 600
    assert (drawn[:300] == 120).all()


def test_events_leave_the_strip_after_a_minute() -> None:
    build = MessageBuilder("test@0", "stream")
    overlay = Overlay()
    overlay(build.event("cam", STAMP, Event("start", "wave", 1, 0.9, 0.9, NOW_US)))
    overlay(build.event("cam", STAMP, Event("end", "wave", 1, 0.3, 0.9, NOW_US, NOW_US + 1_000_000, "score")))
    assert (overlay.draw(picture(120), NOW_US + 60_000_000) == bgr("wave")).all(axis=2).any()
    assert not (overlay.draw(picture(120), NOW_US + 62_000_000) == bgr("wave")).all(axis=2).any()


@given(st.integers(2, 200), st.integers(2, 200), st.text(min_size=1, max_size=50))
def test_any_picture_and_any_label_can_be_drawn(width: int, height: int, label: str) -> None:
    build = MessageBuilder("test@0", "stream")
    overlay = Overlay()
    overlay(build.state("cam", STAMP, State(label, 1, 0.75, NOW_US)))
    overlay(build.status("cam", STAMP, "online", fps_in=29.97))
    assert overlay.draw(picture(120, width, height), NOW_US).shape == (height, width, 3)


def test_a_view_is_outlined_and_what_it_does_not_see_is_dark() -> None:
    image = picture(120)
    height, width = image.shape[:2]
    drawn = outlined(image, ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    assert (drawn[5:-5, 5 : width // 2 - 5] == image[5:-5, 5 : width // 2 - 5]).all()
    assert drawn[height // 2, -5].max() <= 0.6 * image[height // 2, -5].max()
    assert drawn[height // 2, round(0.5 * (width - 1))].min() > 200
    assert (image == picture(120)).all()
    assert outlined(image, None) is image


def test_labels_of_a_view_are_drawn_into_it_alone() -> None:
    overlay, image = Overlay(), picture(120)
    overlay(MessageBuilder("test@0", "stream").state("cam", STAMP, State("wave", 0, 0.9)))
    height, width = image.shape[:2]
    drawn = overlay.draw_view(image, ((0.5, 0), (1, 0), (1, 1), (0.5, 1)), NOW_US)
    assert (drawn[:, : width // 2 - 2] == image[:, : width // 2 - 2]).all()
    assert (drawn[-height // 5 :, width // 2 + 2 :] != image[-height // 5 :, width // 2 + 2 :]).any()
    narrow = overlay.draw_view(image, ((0, 0), (0.001, 0), (0.001, 0.001)), NOW_US)
    assert narrow.shape == image.shape
    assert (overlay.draw_view(image, None, NOW_US) == overlay.draw(image, NOW_US)).all()
