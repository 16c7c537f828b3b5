"""How Home Assistant finds a stream's entities: MQTT discovery, one retained configuration an entity.

A device is a stream. It has a binary sensor for each label, which is on from an event's start to its end, and one event
entity, which fires at each start, update and end, with the event's fields as its attributes. They are available while
both the bridge and the stream are. Keys as in Home Assistant's documentation of `binary_sensor.mqtt`, `event.mqtt` and
the device and origin of `mqtt`, none of them abbreviated.

`unique_id` is never the same for two entities, nor another one after a restart. `default_entity_id` is what the entity
is called at first; Home Assistant itself puts a number behind a name that is taken, and keeps it by the unique id.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from streamer.bridges.names import slug
from streamer.labels.events import EventType
from streamer.text import printable

EVENT_TYPES: tuple[EventType, ...] = ("start", "update", "end")
ONLINE, OFFLINE, ON, OFF = b"online", b"offline", b"ON", b"OFF"
_NAME = "action-streamer"
_MOST_NAME = 100


def label_sensor(prefix: str, stream: str, label: str, model: str) -> tuple[str, dict[str, Any]]:
    """Topic, below the discovery's prefix, and configuration of a label's binary sensor."""
    name = slug(label)
    entity = {
        **_entity(prefix, stream, model),
        "name": printable(label)[:_MOST_NAME] or name,
        "unique_id": f"{prefix}/{stream}/{name}",
        "default_entity_id": f"binary_sensor.{_object_id(prefix, stream, name)}",
        "state_topic": f"{prefix}/{stream}/label/{name}",
        "payload_on": ON.decode(),
        "payload_off": OFF.decode(),
        "icon": "mdi:motion-sensor",
    }
    return f"binary_sensor/{_node(prefix, stream)}/{name}/config", entity


def event_entity(prefix: str, stream: str, model: str) -> tuple[str, dict[str, Any]]:
    """Topic, below the discovery's prefix, and configuration of a stream's event entity."""
    entity = {
        **_entity(prefix, stream, model),
        "name": "Action",
        "unique_id": f"{prefix}/{stream}//event",  # no label's: the name of none is empty
        "default_entity_id": f"event.{_object_id(prefix, stream, 'action')}",
        "state_topic": f"{prefix}/{stream}/event",
        "event_types": list(EVENT_TYPES),
        "icon": "mdi:gesture",
    }
    return f"event/{_node(prefix, stream)}/action/config", entity


def _entity(prefix: str, stream: str, model: str) -> dict[str, Any]:
    """What all entities of a stream have."""
    version = metadata.version(_NAME)
    return {
        "availability": [{"topic": f"{prefix}/bridge"}, {"topic": f"{prefix}/{stream}/available"}],
        "availability_mode": "all",
        "device": {
            "identifiers": [f"{prefix}/{stream}"],
            "name": stream,
            "manufacturer": _NAME,
            "model": printable(model)[:_MOST_NAME],
            "sw_version": version,
        },
        "origin": {"name": _NAME, "sw_version": version},
        "qos": 1,
    }


def _node(prefix: str, stream: str) -> str:
    """The part of a topic that is a stream's own; - is in no slug."""
    return f"{slug(prefix)}-{stream}"


def _object_id(prefix: str, stream: str, name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"{prefix}_{stream}_{name}".lower()).strip("_")
