"""What a service manager is told: that the program is ready, that it is alive, and that it stops (sd_notify).

systemd names a datagram socket in the environment of a service with `Type=notify`; it restarts a service that has not
said for `WatchdogSec` that it is alive. Only the thread that runs the engine says so: a program whose engine hangs is
not alive, whatever its other threads do.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Tells the service manager of `environment`; without one in it, nothing. Used from one thread.

    A manager that does not listen is no reason to stop: it is logged once, and nothing more is told.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # @: Linux's abstract namespace
        self._every_s = _watchdog_s(environment) / 2
        self._ready = False
        self._due = 0.0

    def alive(self) -> None:
        """To be called in every turn of the loop: the first call says that the program is ready."""
        if not self._address:
            return
        now = time.monotonic()
        if now >= self._due and self._tell("WATCHDOG=1" if self._ready else "READY=1"):
            self._ready = True
            self._due = now + self._every_s

    def stopping(self) -> None:
        """The program ends, by itself or because it was told to."""
        if self._address:
            self._tell("STOPPING=1")

    def _tell(self, state: str) -> bool:
        """Whether the message was taken; False while the manager is behind with reading."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            log.warning("NOTIFY_SOCKET %r: cannot be reached (%s); the watchdog hears nothing", self._address, error)
            self._address = ""
        return True


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """How long the manager waits for a sign of life, seconds; infinite if it does not wait, or not for this process."""
    usec = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) and meant else float("inf")
