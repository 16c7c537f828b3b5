from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.fleet.terms import A_REIGN, Terms, new_reign


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**53 - 10_000)), max_size=30), st.integers(0, 3))
def test_a_term_is_above_all_that_were_given_or_heard_of(what: list[int | None], reign: int) -> None:
    terms, highest = Terms(reign), 0
    for one in what:
        if one is None:
            given_ = terms.next()
            assert given_ > highest
            highest = given_
        else:
            terms.heard(one)
            highest = max(highest, one)


@given(st.integers(0, 2**31), st.floats(1, 2**32))
def test_a_head_that_starts_later_gives_higher_terms_even_if_it_knows_nothing(last: int, now_s: float) -> None:
    assert new_reign(last, now_s) > last
    assert new_reign(0, now_s + 1) > new_reign(0, now_s)
    assert Terms(new_reign(last, now_s)).next() > last * A_REIGN
    assert Terms(new_reign(0, 2**32)).next() < 2**53  # JavaScript's whole numbers
