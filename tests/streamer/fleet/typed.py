"""What a page says to type and what is printed then, and a network of its own in which it can be typed as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_PAGE = Path(__file__).parents[3] / "docs" / "tasks" / "fleet.md"
_BLOCK = re.compile(r"^```yaml\n(?P<file>(?:(?!```).*\n)+)|(?P<code>(?:^    .*\n)+)", re.M)
_DIFFERS = (  # from machine to machine, and from time to time
    (re.compile(r"\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"(ipc://|--token-file )\S+/"), r"\1FOLDER/"),
    (re.compile(r"\d+-[0-9a-f]{6}\.fleet"), "NUMBER.fleet"),
    (re.compile(r"\d+%"), "PART"),
    (re.compile(r"\d+\.\d\d"), "NUMBER"),
    (re.compile(r"degraded\b.*"), "online"),  # on a machine that is too slow for it
)
_HOLD = (
    "import socket, struct, sys, fcntl;"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1));"  # SIOCSIFFLAGS: it is up
    "print(flush=True); sys.stdin.read()"
)


class Step(NamedTuple):
    """A command, or a file that is written; printed: the lines that the page says it prints, without what differs."""

    command: str
    file: str
    printed: list[str]


def steps(title: str) -> list[Step]:
    """The steps of a section of the page, in their order."""
    section = _PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    found: list[Step] = []
    for block in _BLOCK.finditer(section):
        if block["file"]:
            found.append(Step("", block["file"], []))
        elif block["code"].startswith("    streamer "):
            found += [Step(line.strip(), "", []) for line in block["code"].splitlines()]
        else:
            found[-1].printed.extend(told(block["code"]))
    return found


def told(printed: str) -> list[str]:
    """Lines without what differs, each word by one space from the next."""
    for differs, name in _DIFFERS:
        printed = differs.sub(name, printed)
    return [" ".join(line.split()) for line in printed.splitlines()]


class Network:
    """A network with nothing but loopback addresses, where every port is free; or this machine's, if none can be made.

    within: what a command begins with that is to run there.
    """

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self.within: list[str] = []
        new = ["unshare", "--map-root-user", "--net"]
        try:
            subprocess.run([*new, "nsenter", "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return
        self._holder = subprocess.Popen(
            [*new, sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline()
        to = str(self._holder.pid)
        self.within = ["nsenter", "--user", "--net", "--preserve-credentials", "--target", to]

    def close(self) -> None:
        """It is gone as soon as nothing runs in it."""
        if self._holder:
            self._holder.communicate(timeout=30)
