"""A network for each machine of a fleet, all on one bridge, of which each can be taken off: what it sends is lost, and
so is what others send to it, as if somebody had pulled its cable at the switch. Needs root and `ip` (iproute2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from tools.errors import ToolError

_SWITCH = "switch"  # the namespace that has the bridge
_NET = "10.0.0"  # inside, where nobody else is


class Nets:
    """hosts: the address of each machine. Raises ToolError where namespaces may not be made."""

    def __init__(self, names: Sequence[str]) -> None:
        self._name = f"fleet{os.getpid()}"
        self.hosts = {name: f"{_NET}.{number}" for number, name in enumerate(names, 2)}
        self._made: list[str] = []
        try:
            self._make(_SWITCH)
            self._in(_SWITCH, "link add name bridge type bridge")
            self._in(_SWITCH, "link set dev bridge up")
            for name, host in self.hosts.items():
                self._make(name)
                self._in(_SWITCH, f"link add name {name} type veth peer name eth0 netns {self._space(name)}")
                self._in(_SWITCH, f"link set dev {name} up")
                self._in(name, f"addr add {host}/24 dev eth0")
                self._in(name, "link set dev eth0 up")
                self.plug(name)
        except ToolError:
            self.close()
            raise

    def command(self, name: str) -> list[str]:
        """What starts a program on a machine, before its own command."""
        return ["ip", "netns", "exec", self._space(name)]

    def unplug(self, name: str) -> None:
        """Nothing of a machine is heard any more, and it hears nothing."""
        self._in(_SWITCH, f"link set dev {name} nomaster")

    def plug(self, name: str) -> None:
        """It is on the bridge again."""
        self._in(_SWITCH, f"link set dev {name} master bridge")

    def close(self) -> None:
        """Remove all of them; with a namespace go its links."""
        while self._made:
            with suppress(ToolError):
                _ip("netns", "delete", self._made.pop())

    def _space(self, name: str) -> str:
        return f"{self._name}-{name}"

    def _make(self, name: str) -> None:
        _ip("netns", "add", self._space(name))
        self._made.append(self._space(name))
        self._in(name, "link set dev lo up")

    def _in(self, name: str, words: str) -> None:
        _ip("-netns", self._space(name), *words.split())


def _ip(*words: str) -> None:
    if not shutil.which("ip"):
        raise ToolError("there is no `ip`: apt-get install iproute2")
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise ToolError(f"networks cannot be made here: ip {' '.join(words)}: {done.stderr.strip()}")
