from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.fleet.placing import Placer, Room, Wish, balance

NORTH, SOUTH = {"site": "north"}, {"site": "south"}

rooms = st.lists(
    st.builds(
        Room,
        st.integers(0, 99).map("n{:02}".format),
        st.integers(1, 6),
        st.integers(1, 8),
        st.sampled_from([{}, NORTH, SOUTH]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda room: room.name,
)
wishes = st.lists(
    st.builds(
        Wish,
        st.integers(0, 99).map("c{:02}".format),
        st.integers(1, 3),
        st.sampled_from([{}, NORTH, SOUTH]),
        st.sampled_from([10.0, 100.0, 400.0]),
    ),
    max_size=12,
    unique_by=lambda wish: wish.name,
)


def test_a_stream_goes_where_it_would_be_near_and_elsewhere_when_that_is_full() -> None:
    placer = Placer([Room("a", 2), Room("b", 1, near=NORTH)])
    assert placer.best(Wish("door", near=NORTH)) == "b"
    placer.put(Wish("door", near=NORTH), "b")
    choice = placer.choose(Wish("yard", near=NORTH))
    assert choice.node == "a"
    assert choice.why == (
        "no node with room is near site=north; then it has 1 of 2 rows and 10% of its decoding, the least loaded of 1 "
        "node with room"
    )


def test_streams_are_spread_by_rows_and_by_what_decoding_them_costs() -> None:
    placer = Placer([Room("a", 8, cores=1), Room("b", 8, cores=1)])
    placer.put(Wish("large", cost_ms=800), "a")
    placer.put(Wish("one", cost_ms=10), "b")
    placer.put(Wish("two", cost_ms=10), "b")
    assert placer.best(Wish("next", cost_ms=100)) == "b"
    assert (
        Placer([Room("a", 8, cores=1, near=NORTH), Room("b", 8)], [(Wish("large", cost_ms=950), "a")]).best(
            Wish("next", near=NORTH, cost_ms=100)
        )
        == "b"
    )  # near, but its processor could not decode it


def test_who_waits_is_told_why() -> None:
    placer = Placer([Room("a", 1)], [(Wish("one"), "a")])
    assert placer.choose(Wish("two")).why == "no node has a row free: 1 of 1 on 1 node are taken"
    assert "could not be had from a" in placer.choose(Wish("two", avoid=frozenset("a"))).why
    assert "streamer fleet join" in Placer([]).choose(Wish("two")).why


@given(rooms, wishes, st.randoms())
def test_the_same_fleet_gives_the_same_places_in_whatever_order_it_is_told_and_no_node_has_too_much(
    rooms: list[Room], wishes: list[Wish], order: st.DataObject
) -> None:
    def place(rooms: list[Room]) -> dict[str, str | None]:
        placer, where = Placer(rooms), {}
        for wish in wishes:
            where[wish.name] = node = placer.best(wish)
            if node:
                placer.put(wish, node)
        return where

    where = place(rooms)
    assert place(rooms[::-1]) == where
    for room in rooms:
        assert sum(wish.rows for wish in wishes if where[wish.name] == room.name) <= room.rows
    for wish in wishes:
        free = [room.rows - sum(w.rows for w in wishes if where[w.name] == room.name) for room in rooms]
        assert where[wish.name] or max(free) < wish.rows


@given(rooms, wishes)
def test_balance_takes_nobody_from_where_it_would_be_near_and_a_second_one_moves_nothing(
    rooms: list[Room], wishes: list[Wish]
) -> None:
    placer, seats = Placer(rooms), []
    for wish in wishes:
        crowded = next((room.name for room in rooms if placer.load(room.name) + wish.rows / room.rows <= 1), None)
        if crowded:
            placer.put(wish, crowded)
            seats.append((wish, crowded))
    steps = {step.stream: step for step in balance(rooms, seats)}
    after = [(wish, steps[wish.name].target if wish.name in steps else node) for wish, node in seats]
    known = Placer(rooms)
    for (wish, before), (_, now) in zip(seats, after, strict=True):
        assert known.matches(wish, now) >= known.matches(wish, before)
    for room in rooms:
        assert sum(wish.rows for wish, node in after if node == room.name) <= room.rows


def test_a_new_node_moves_nothing_by_itself_and_balance_fills_it() -> None:
    seats = [(Wish(f"c{n}"), "a") for n in range(4)]
    steps = balance([Room("a", 4), Room("b", 4)], seats)
    assert [(step.source, step.target) for step in steps] == [("a", "b")] * 2
    moved = {step.stream for step in steps}
    assert balance([Room("a", 4), Room("b", 4)], [(w, "b" if w.name in moved else "a") for w, _ in seats]) == []


def test_a_thousand_nodes_and_ten_thousand_streams_are_placed_and_balanced() -> None:
    rooms = [Room(f"n{n:04}", 16, 4, {"site": f"s{n % 10}"}) for n in range(1000)]
    wishes = [Wish(f"c{n:05}", 1, {"site": f"s{n % 10}"} if n % 2 else {}, 40 + n % 100) for n in range(10_000)]
    seats = [(wish, f"n{n % 625:04}") for n, wish in enumerate(wishes)]
    lost = [wish for wish, node in seats if node == "n0007"]
    placer = Placer([room for room in rooms if room.name != "n0007"], [seat for seat in seats if seat[1] != "n0007"])
    for wish in lost:
        node = placer.best(wish)
        assert node
        placer.put(wish, node)
    steps = balance(rooms, seats)
    taken = Placer(rooms, [(wish, node) for wish, node in seats if wish.name not in {step.stream for step in steps}])
    for step in steps:
        taken.put(wishes[int(step.stream[1:])], step.target)
    assert len(lost) == 16
    assert max(taken.load(room.name) for room in rooms) < 0.75
