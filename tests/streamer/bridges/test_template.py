from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.bridges.template import Body
from streamer.errors import ConfigError
from tests.streamer.bridges.peers import event


def filled(template: str, label: str = "wave", kind: Any = "end") -> str:
    return Body(template).of(event(kind, label)).decode()


def test_without_a_template_the_body_is_the_message() -> None:
    body = json.loads(Body().of(event("end")))
    assert body["kind"] == "event"
    assert (body["label"], body["peak"], body["reason"], body["clip"]["name"]) == ("wave", 0.9375, "score", "door-1")
    assert "clip_url" not in body


def test_an_event_with_a_clip_tells_its_address() -> None:
    body = Body(clips="http://nas/clips/")
    assert json.loads(body.of(event("end")))["clip_url"] == "http://nas/clips/door-1.mp4"
    assert "clip_url" not in json.loads(body.of(event("start")))


def test_values_stand_in_a_template_of_json_as_such() -> None:
    text = filled('{"text": "$label on ${stream}!", "peak": $peak, "end": $t_end_us, "$$": "$reason"}', 'say "hi"\n👋')
    assert json.loads(text) == {
        "text": 'say "hi"\n👋 on door!',
        "peak": 0.9375,
        "end": 1_700_000_001_000_000,
        "$": "score",
    }


def test_what_an_event_does_not_have_yet_is_null_or_an_empty_text() -> None:
    assert json.loads(filled('["$reason", $t_end_us, "$end", "$clip"]', kind="start")) == ["", None, "", ""]


def test_a_template_that_is_no_json_is_text() -> None:
    body = Body("$label at $start for $length_s s")
    assert body.content_type.startswith("text/plain")
    assert body.of(event("end", 'a "b"')) == b'a "b" at 2023-11-14T22:13:20.000+00:00 for 1.0 s'


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("$lable", r"an event has no \$lable; did you mean 'label'\?"),
        ("$nothing", r"there are stream, type"),
        ("costs 5$", r"\$\$ for a dollar sign"),
        ('{"text": $label}', "texts need quotes"),
        ('{"a": 1', "begins as JSON"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_at_once(template: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Body(template)
