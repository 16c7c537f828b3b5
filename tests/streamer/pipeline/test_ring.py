from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from streamer.pipeline.ring import Fit, Origin, Ring, fit
from streamer.types import Image


def picture(value: int) -> Image:
    return np.full((4, 6, 3), value, np.uint8)


def drain(ring: Ring) -> list[tuple[int, int]]:
    """(index, value of the pixels) of everything in the ring."""
    out, found = picture(0), []
    while stamp := ring.pop(out):
        assert (out == out[0, 0, 0]).all(), "a torn picture"
        found.append((stamp.index, int(out[0, 0, 0])))
    return found


def test_pictures_come_out_in_order_with_their_stamps() -> None:
    ring = Ring(4, 4, 6)
    ring.push(Origin(1000, 7, 2), picture(50))
    ring.push(Origin(2000, 8, 2), picture(60))
    assert len(ring) == 2
    out = picture(0)
    stamp = ring.pop(out)
    assert stamp is not None
    assert (stamp.time_us, stamp.index, stamp.connection) == (1000, 7, 2)
    assert (out == 50).all()
    assert drain(ring) == [(8, 60)]


def test_an_empty_ring_gives_nothing_and_leaves_the_picture_alone() -> None:
    out = picture(9)
    assert Ring(2, 4, 6).pop(out) is None
    assert (out == 9).all()


def test_a_full_ring_drops_the_oldest_and_counts_it() -> None:
    ring = Ring(3, 4, 6)
    for index in range(10):
        assert ring.push(Origin(index, index, 0), picture(index))
    assert ring.dropped == {"ring_full": 7}
    assert drain(ring) == [(7, 7), (8, 8), (9, 9)]


def test_the_ring_keeps_copies() -> None:
    ring, image = Ring(2, 4, 6), picture(1)
    ring.push(Origin(0, 0, 0), image)
    image[:] = 2
    assert drain(ring) == [(0, 1)]


def test_on_push_is_called_after_the_picture_is_there() -> None:
    lengths: list[int] = []
    ring = Ring(2, 4, 6, on_push=lambda: lengths.append(len(ring)))
    ring.push(Origin(0, 0, 0), picture(0))
    ring.push(Origin(0, 1, 0), picture(0))
    assert lengths == [1, 2]


def test_a_push_that_waits_loses_nothing() -> None:
    ring, stop = Ring(2, 4, 6), threading.Event()
    producer = threading.Thread(target=lambda: [ring.push(Origin(i, i, 0), picture(i % 256), stop) for i in range(500)])
    producer.start()
    found: list[tuple[int, int]] = []
    while len(found) < 500 and (producer.is_alive() or len(ring)):
        found += drain(ring)
    producer.join()
    assert found == [(i, i % 256) for i in range(500)]
    assert ring.dropped == {"ring_full": 0}


def test_a_push_that_waits_gives_up_when_told_to_stop() -> None:
    ring, stop = Ring(1, 4, 6), threading.Event()
    ring.push(Origin(0, 0, 0), picture(5))
    results: list[bool] = []
    producer = threading.Thread(target=lambda: results.append(ring.push(Origin(1, 1, 0), picture(6), stop)))
    producer.start()
    stop.set()
    producer.join(10)
    assert results == [False]
    assert drain(ring) == [(0, 5)]


def test_a_ring_that_is_closed_tells_what_is_left_and_lets_go_of_who_waits() -> None:
    ring, stop = Ring(1, 4, 6), threading.Event()
    assert ring.push(Origin(1, 1, 0), picture(1))
    pushed: list[bool] = []
    thread = threading.Thread(target=lambda: pushed.append(ring.push(Origin(2, 2, 0), picture(2), stop)))
    thread.start()
    assert ring.close() == 1
    thread.join(10)
    assert pushed == [False]
    assert not ring.push(Origin(3, 3, 0), picture(3))
    assert ring.dropped == {"ring_full": 0}


def test_two_threads_never_see_a_torn_or_repeated_picture() -> None:
    ring = Ring(2, 4, 6)
    producer = threading.Thread(target=lambda: [ring.push(Origin(i, i, 0), picture(i % 256)) for i in range(3000)])
    producer.start()
    found: list[tuple[int, int]] = []
    while producer.is_alive() or len(ring):
        found += drain(ring)
    indices = [index for index, _ in found]
    assert indices == sorted(set(indices))
    assert all(value == index % 256 for index, value in found)
    assert len(found) + ring.dropped["ring_full"] == 3000


@pytest.mark.parametrize("mode", ["stretch", "crop"])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (224, 224), (96, 160)])
@pytest.mark.parametrize("shape", [(480, 640), (640, 360), (100, 100), (37, 53)])
def test_fit_gives_the_size_asked_for(mode: Fit, height: int, width: int, shape: tuple[int, int]) -> None:
    image = fit(np.full((*shape, 3), 77, np.uint8), height, width, mode)
    assert image.shape == (height, width, 3)
    assert (image == 77).all()


def ramp(axis: int) -> Image:
    """[224, 448, 3]: brightness is the row or column, in 1/256 of the picture."""
    place = np.indices((224, 448))[axis] * 256 // (224, 448)[axis]
    return np.repeat(place[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("mode", "axis", "first", "last"),
    [
        ("stretch", 0, 0, 255),  # everything is kept
        ("stretch", 1, 0, 255),
        ("crop", 0, 16, 239),  # of the short side 224/256 are kept
        ("crop", 1, 72, 183),  # and of the long side, twice as long, half as much
    ],
)
def test_fit_keeps_the_part_of_the_picture_that_its_mode_says(mode: Fit, axis: int, first: int, last: int) -> None:
    image = fit(ramp(axis), 112, 112, mode)[:, :, 0]
    ends: Callable[[int], int] = lambda at: int(image.take(at, axis).mean())  # noqa: E731
    assert abs(ends(0) - first) <= 2
    assert abs(ends(-1) - last) <= 2


def test_crop_keeps_the_aspect_ratio() -> None:
    disc = np.zeros((300, 500, 3), np.uint8)
    rows, columns = np.indices((300, 500))
    disc[(rows - 150) ** 2 + (columns - 250) ** 2 < 80**2] = 255
    shown = fit(disc, 112, 112, "crop")[:, :, 0] > 128
    assert abs(int(shown.any(axis=0).sum()) - int(shown.any(axis=1).sum())) <= 1
