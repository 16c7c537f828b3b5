"""`streamer` as if on another system: python -m tests.streamer.elsewhere darwin|win32 ARGUMENTS...

What Python lacks there is taken away, once the libraries are loaded that came for this system. What the other system
itself would do cannot be played.
"""

from __future__ import annotations

import asyncio  # noqa: F401
import importlib
import multiprocessing  # noqa: F401
import os
import select
import signal
import socket
import subprocess  # noqa: F401
import sys
from typing import Any

import av  # noqa: F401
import cv2  # noqa: F401
import msgspec  # noqa: F401
import openvino  # noqa: F401
import pydantic.main  # noqa: F401
import rich.console
import rich.live  # noqa: F401
import typer  # noqa: F401
import yaml  # noqa: F401
import zmq  # noqa: F401

MISSING: dict[str, list[tuple[Any, str]]] = {
    "darwin": [
        (os, "memfd_create"),
        (os, "sched_getaffinity"),
        (select, "epoll"),
        (socket, "TCP_INFO"),
    ],
    "win32": [
        (os, "geteuid"),
        (os, "getuid"),
        (os, "nice"),
        (os, "sendfile"),
        (os, "setpriority"),
        (select, "poll"),
        (signal, "SIGHUP"),
        (socket, "AF_UNIX"),
    ],
}

if __name__ == "__main__":
    system = sys.argv.pop(1)
    for module, name in (*MISSING["darwin"], *(MISSING[system] if system == "win32" else ())):
        delattr(module, name)
    if system == "win32":
        sys.modules |= dict.fromkeys(("fcntl", "resource", "pwd", "grp"))  # type: ignore[arg-type]
    sys.platform = system
    importlib.import_module("streamer.system")  # which looks at it

    sys.platform = "linux"  # for the libraries, which are those of this system
    from streamer.commands import main

    main()
