from __future__ import annotations

import types

import streamer


def test_the_public_names_are_sorted_and_nothing_else_leaks() -> None:
    assert sorted(streamer.__all__) == streamer.__all__
    leaked = {
        name
        for name, value in vars(streamer).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert leaked == set(streamer.__all__)
