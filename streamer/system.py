"""What needs Linux, and what to do on macOS and Windows. docs/tasks/other_systems.md has it as a table.

Everything here is written for other systems, and has run on none of them.
"""

from __future__ import annotations

import sys

from streamer.config import Config
from streamer.errors import ConfigError

LINUX = sys.platform == "linux"
WINDOWS = sys.platform == "win32"


def check_system(config: Config) -> None:
    """Raise ConfigError if the configuration asks for what this system lacks."""
    if LINUX:
        return
    publish = config.publish
    missing = {
        "clips.folder": config.clips.folder is not None,
        "publish.curve": publish.curve is not None,
        "control_curve": config.control_curve is not None,
    }
    if WINDOWS:
        addresses = {"publish.address": publish.address, "control": config.control}
        missing |= {f"{key}: {value}": (value or "").startswith("ipc:") for key, value in addresses.items()}
        missing |= {"view.address": config.view.address is not None}
        missing |= {f"the source {source.uri}": source.uri == "-" for source in config.sources}
    if wrong := [what for what, asked in missing.items() if asked]:
        raise needs_linux(wrong[0])


def needs_linux(what: str) -> ConfigError:
    """The error for what is asked for, and is not there."""
    return ConfigError(f"{what}: needs Linux; leave it out, or run in a Linux container or virtual machine")
