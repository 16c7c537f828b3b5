from __future__ import annotations

import threading

from streamer.bridges.outbox import Outbox


def test_the_oldest_makes_room_and_is_counted() -> None:
    outbox: Outbox[int] = Outbox(3)
    for number in range(5):
        outbox.put(number)
    assert outbox.dropped == 2
    assert [outbox.take() for _ in range(3)] == [2, 3, 4]


def test_what_waits_can_be_taken_after_the_end() -> None:
    outbox: Outbox[str] = Outbox(3)
    outbox.put("last")
    outbox.close()
    assert outbox.take() == "last"
    assert outbox.take() is None


def test_the_end_wakes_who_waits() -> None:
    outbox: Outbox[str] = Outbox(3)
    taken: list[str | None] = []
    waiting = threading.Thread(target=lambda: taken.append(outbox.take()))
    waiting.start()
    outbox.close()
    waiting.join(30)
    assert taken == [None]


def test_what_is_cleared_is_counted_as_dropped() -> None:
    outbox: Outbox[str] = Outbox(3)
    outbox.put("one")
    outbox.clear()
    outbox.close()
    assert (outbox.dropped, outbox.take()) == (1, None)
