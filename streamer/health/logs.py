"""The log: lines on standard error, for people or as JSON, and without the passwords that are in addresses.

Whatever a program says while something goes wrong passes here: the records of all loggers, warnings, errors that end a
thread, errors that Python cannot raise. The formatters redact, so nothing that is logged is shown as it came.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from streamer.errors import ConfigError
from streamer.text import printable, redact

_CAPTURE = "capture "  # begins the names of the capture threads; the stream's name follows

log = logging.getLogger("streamer")


def set_up(style: str) -> None:
    """Send the log of the whole process to standard error; may be called again with another style.

    text  warnings and errors: what `streamer run` does otherwise is on standard output
    json  one object a line, and the news of the sources too: for machines, which read nothing else

    Raises ConfigError for another style.
    """
    if style not in ("text", "json"):
        raise ConfigError(f"--log {style}: there is no such style; use text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.raiseExceptions = False  # else a record that cannot be written is shown as it came
    log.setLevel(logging.INFO if style == "json" else logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable
    sys.excepthook = _program_failed


def style() -> str:
    """The style that was set up, to be handed on to processes that this one starts."""
    json_style = any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
    return "json" if json_style else "text"


class TextFormatter(logging.Formatter):
    """`LEVEL logger: message`, and the traceback below it; `streamer: message` when the command itself speaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name in logging)
        """The record's first line."""
        speaker = "streamer" if record.name == "streamer" else f"{record.levelname} {record.name}"
        return f"{speaker}: {printable(record.message)}"

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines."""
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object: ts (UTC), level, logger, message, and stream and exception (its traceback) where there are."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        fields = {
            "ts": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "stream": _stream(record),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: redact(value) for name, value in fields.items() if value is not None})


def _stream(record: logging.LogRecord) -> str | None:
    """The stream that the record is about: the one given with `extra`, or the one that its thread captures."""
    given: str | None = getattr(record, "stream", None)
    thread = record.threadName or ""
    return given or (thread.removeprefix(_CAPTURE) if thread.startswith(_CAPTURE) else None)


def _program_failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python calls when an error ends the program."""
    log.critical("an error ended the program", exc_info=(kind, error, trace))


def _thread_failed(error: Any) -> None:
    """What Python calls when an error ends a thread."""
    name = error.thread.name if error.thread else "?"
    log.critical("an error ended the thread %s", name, exc_info=(error.exc_type, error.exc_value, error.exc_traceback))


def _unraisable(error: Any) -> None:
    """What Python calls when an error occurs where it cannot be raised, as in a destructor."""
    cause = (error.exc_type, error.exc_value, error.exc_traceback)
    log.error("%s: %r", error.err_msg or "an error was ignored in", error.object, exc_info=cause)
