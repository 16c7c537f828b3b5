"""The body of a request: the event as it is published, or a text in which its values stand."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from string import Template
from typing import Any

import msgspec

from engines.errors import did_you_mean
from streamer.errors import ConfigError
from streamer.labels.messages import EventMessage, Times

_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
_SAMPLE = EventMessage(
    stream="door", session="s", epoch=0, seq=0, model="m", mode="stream", ready=True,
    ts=Times(frame_us=0, infer_us=0, pub_us=0), age_ms=0.0,
    id="door-0", type="end", label="wave", label_id=1, score=0.5, peak=1.0, t_start_us=0, t_end_us=None, reason=None,
)  # fmt: skip


class Body:
    """Makes the bodies.

    template  a text with $label, $stream, ${peak}, ...; None: the event's message as JSON, as it is published. Where
              it begins with { or [ it is JSON, and values are written into it as such: in quotes, as in "$label".
    clips     the address below which the clips are: then there is `clip_url` for an event that has one

    Raises ConfigError for a template that names what is no value, or is to be JSON and is not.
    """

    def __init__(self, template: str | None = None, clips: str | None = None) -> None:
        self._template = None if template is None else Template(template)
        self._clips = clips.rstrip("/") if clips else None
        self._as_json = template is None or template.lstrip()[:1] in ("{", "[")
        self.content_type = _JSON if self._as_json else _TEXT
        if self._template is not None:
            self._check(self._template)

    def of(self, event: EventMessage) -> bytes:
        """The body for an event."""
        address = self.clip_url(event)
        if self._template is None:
            return msgspec.json.encode({**msgspec.to_builtins(event), **({"clip_url": address} if address else {})})
        values = {**_values(event), "clip_url": address}
        write = _in_json if self._as_json else _in_text
        return self._template.substitute({name: write(value) for name, value in values.items()}).encode()

    def clip_url(self, event: EventMessage) -> str:
        """Where the event's clip is; "" without one."""
        return f"{self._clips}/{event.clip.name}.mp4" if self._clips and event.clip else ""

    def _check(self, template: Template) -> None:
        known = [*_values(_SAMPLE), "clip_url"]
        for match in template.pattern.finditer(template.template):
            name = match["named"] or match["braced"]
            if match["invalid"] is not None:
                raise ConfigError("--template: a $ stands before no name; write $$ for a dollar sign")
            if name and name not in known:
                hint = did_you_mean(name, known, f"there are {', '.join(known)}")
                raise ConfigError(f"--template: an event has no ${name}; {hint}")
        if self._as_json:
            try:
                json.loads(self.of(_SAMPLE))
            except ValueError as error:
                raise ConfigError(
                    f"--template: begins as JSON and is none once it is filled: {error}; texts need quotes: "
                    '{"text": "$label"}'
                ) from error


def _values(event: EventMessage) -> dict[str, Any]:
    """What a template can name, by name; texts are never None."""
    end_us = event.t_end_us
    return {
        "stream": event.stream,
        "type": event.type,
        "label": event.label,
        "label_id": event.label_id,
        "score": event.score,
        "peak": event.peak,
        "id": event.id,
        "session": event.session,
        "model": event.model,
        "reason": event.reason or "",
        "t_start_us": event.t_start_us,
        "t_end_us": end_us,
        "start": _time(event.t_start_us),
        "end": "" if end_us is None else _time(end_us),
        "length_s": None if end_us is None else (end_us - event.t_start_us) / 1e6,
        "clip": event.clip.name if event.clip else "",
    }


def _time(time_us: int) -> str:
    try:
        return datetime.fromtimestamp(time_us / 1e6, timezone.utc).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""  # no time of day that a calendar has


def _in_json(value: Any) -> str:
    return json.dumps(value)[1:-1] if isinstance(value, str) else json.dumps(value)


def _in_text(value: Any) -> str:
    return "" if value is None else str(value)
