from __future__ import annotations

import pytest

from streamer.commands.config import show_config
from streamer.commands.keys import all_keys, described
from streamer.errors import ConfigError


def test_every_key_is_described_with_its_default_and_its_values() -> None:
    lines = list(described())
    assert "events.enter: 0.6  # number, probability" in lines
    assert "sources.0.uri: required  # text" in lines
    assert [key.path for key in all_keys() if key.told] == [line.partition(": ")[0] for line in lines[::2]]
    assert all(line.startswith("    ") for line in lines[1::2])


def test_a_section_is_described_alone() -> None:
    assert {line.partition(".")[0] for line in list(described("view"))[::2]} == {"view"}
    assert next(described("events.enter")).startswith("events.enter: ")
    with pytest.raises(ConfigError, match=r"no such key; did you mean 'events\.enter'"):
        list(described("events.entr"))


def test_values_and_where_they_came_from_can_be_asked_for_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    show_config("publish.topk")
    assert capsys.readouterr().out == "publish.topk: 5  # default\n"
    show_config("publish.topk", describe=True)
    assert "How many labels" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"no such key; did you mean 'publish\.topk'"):
        show_config("publish.topkk")
