"""What Home Assistant is told, held against the keys that its documentation lists (of November 2026)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamer.bridges.homeassistant import event_entity, label_sensor

# https://www.home-assistant.io/integrations/mqtt/#using-availability-topics and the pages of both entities
ENTITY = {
    *("availability", "availability_mode", "availability_template", "availability_topic", "default_entity_id"),
    *("device", "device_class", "enabled_by_default", "encoding", "entity_category", "entity_picture", "icon"),
    *("json_attributes_template", "json_attributes_topic", "name", "origin", "payload_available"),
    *("payload_not_available", "platform", "qos", "state_topic", "unique_id", "value_template"),
}
SENSOR = ENTITY | {"expire_after", "force_update", "off_delay", "payload_off", "payload_on"}
EVENT = ENTITY | {"event_types"}
DEVICE = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name"),
    *("serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN = {"name", "sw_version", "support_url"}
AVAILABILITY = {"payload_available", "payload_not_available", "topic", "value_template"}
TOPIC = re.compile(r"(?P<component>\w+)/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
ENTITY_ID = re.compile(r"(?!.+__)(?!_)[\da-z_]+(?<!_)\.(?!_)[\da-z_]+(?<!_)")

LABELS = ["wave", "moving left", "moving.left", "Überholen 🚗", "🚗", "a/b+c#d", 'say "hi"', "x" * 500, "\n", "a_", ""]
STREAMS = ["door", "cam-1", "cam_1", "-", "_", "x" * 64]


def sensors() -> list[tuple[str, dict[str, Any]]]:
    return [label_sensor("a/b", stream, label, "net@1") for stream in STREAMS for label in LABELS]


def entities() -> list[tuple[str, dict[str, Any]]]:
    return sensors() + [event_entity("a/b", stream, "net@1") for stream in STREAMS]


@pytest.mark.parametrize(("topic", "told"), entities())
def test_home_assistant_documents_every_key_that_it_is_told(topic: str, told: dict[str, Any]) -> None:
    found = TOPIC.fullmatch(topic)
    assert found
    assert told.keys() <= {"binary_sensor": SENSOR, "event": EVENT}[found["component"]]
    assert {"state_topic", "unique_id", "device", "origin"} <= told.keys()
    assert told["device"].keys() <= DEVICE
    assert told["device"]["identifiers"]
    assert "name" in told["origin"]
    assert told["origin"].keys() <= ORIGIN
    assert told["availability_mode"] == "all"
    assert [place.keys() <= AVAILABILITY and "topic" in place for place in told["availability"]] == [True, True]
    assert ENTITY_ID.fullmatch(told["default_entity_id"])
    assert told["default_entity_id"].startswith(f"{found['component']}.")
    topics = [told["state_topic"], *(place["topic"] for place in told["availability"])]
    assert not [topic for topic in topics if re.search(r"[+#\0]", topic)]
    assert told["name"].isprintable()


def test_entities_have_topics_and_ids_of_their_own() -> None:
    told = entities()
    assert len({topic for topic, _ in told}) == len(told)
    assert len({entity["unique_id"] for _, entity in told}) == len(told)
    assert len({entity["state_topic"] for _, entity in told}) == len(told)


def test_entities_of_a_stream_are_one_device() -> None:
    told = [label_sensor("p", "door", label, "net@1")[1] for label in LABELS] + [event_entity("p", "door", "net@1")[1]]
    assert len({tuple(entity["device"]["identifiers"]) for entity in told}) == 1
    assert {entity["device"]["name"] for entity in told} == {"door"}


def test_bridges_with_prefixes_that_look_alike_do_not_meet() -> None:
    assert len({label_sensor(prefix, "door", "wave", "m")[0] for prefix in ("a/b", "a_b", "a b", "A/b")}) == 4


def test_an_entity_event_has_the_types_of_events() -> None:
    assert event_entity("p", "door", "m")[1]["event_types"] == ["start", "update", "end"]
