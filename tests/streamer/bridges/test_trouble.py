from __future__ import annotations

import pytest

from streamer.bridges import trouble
from streamer.bridges.trouble import MOST, Trouble


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_each_kind_of_trouble_is_said_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    end = Trouble("broker x")
    for _ in range(100):
        end.tell("away")
        end.tell("slow")
    end.over("is there")
    end.over("is there")
    end.tell("away")
    assert said(caplog) == [
        "broker x: away",
        "broker x: slow",
        "broker x: is there (and 198 times more of this)",
        "broker x: away",
    ]


def test_trouble_that_lasts_is_said_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "AGAIN_S", 0.0)
    end = Trouble("x")
    end.tell("away")
    end.tell("away")
    assert said(caplog) == ["x: away"] * 2


def test_trouble_that_comes_and_goes_fills_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    end = Trouble("x")
    for number in range(1000):
        end.tell(f"away {number}")
        end.over("is there")
    assert len(said(caplog)) == MOST
