from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.bridges.names import slug

ODD = (
    *("moving left", "moving_left", "moving.left", "Moving Left", "moving  left", " moving left", "moving/left"),
    *("Überholen", "uberholen", "überholen", "ß", "ss", "👋", "🚗", "a+b", "a#b", "\0", "", " ", "x" * 300, "x" * 301),
)


def test_words_in_small_letters_stay_as_they_are() -> None:
    assert slug("wave") == "wave"
    assert slug("moving left") == "moving_left"


def test_labels_that_look_alike_have_names_of_their_own() -> None:
    names = [slug(label) for label in ODD]
    assert len(set(names)) == len(ODD)
    assert slug("Überholen").startswith("uberholen_")


def test_a_name_is_the_same_in_every_run() -> None:
    assert slug("Überholen 🚗.2") == "uberholen_2_719b7d3f"


@settings(max_examples=30)
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_name_can_stand_in_every_topic_and_id(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9_]{0,48}", slug(one))
    assert (slug(one) == slug(other)) == (one == other)
