"""Readers of a label stream in a process of their own, which may be stopped and killed without harm to anybody else.

The process is this file, run as a script: it loads nothing of the project, so that two hundred readers cost little.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import zmq


class Readers:
    """So many connections to a publisher, each with a subscription of its own, in one process.

    every_s  reads a message that often, and its queue is short; 0: as they come
    """

    def __init__(self, address: str, count: int = 1, prefix: str = "act/1/", every_s: float = 0.0) -> None:
        self.count = count
        self.process = subprocess.Popen(
            [sys.executable, __file__, address, str(count), prefix, str(every_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_joined(self) -> None:
        """Until the first message has come."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "joined\n", "the readers did not start"

    def stall(self) -> None:
        """Read nothing any more, and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stall`."""
        self.process.send_signal(signal.SIGCONT)

    def leave(self) -> None:
        """As programs do that end; one that stalls goes on first."""
        self.go_on()
        self.process.communicate()

    def die(self) -> None:
        """As programs do that are killed; also while they stall."""
        self.process.kill()
        self.process.communicate()


def read(address: str, count: int, prefix: str, every_s: float) -> None:
    """Be so many readers until standard input ends."""
    os.nice(19)  # readers are elsewhere; here they shall not take the processor from the program
    context = zmq.Context()
    socket = context.socket(zmq.XSUB)  # unlike SUB it connects to one address as often as it is told to
    socket.setsockopt(zmq.LINGER, 0)
    if every_s:
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.setsockopt(zmq.RCVBUF, 4096)
    for _ in range(count):
        socket.connect(address)
    socket.send(b"\x01" + prefix.encode())
    threading.Thread(target=_read, args=(context, socket, every_s), daemon=True).start()
    sys.stdin.read()
    context.term()  # makes the thread close its sockets


def _read(context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], every_s: float) -> None:
    with suppress(zmq.ContextTerminated), socket, context.socket(zmq.XPUB) as nobody:
        socket.recv_multipart()
        sys.stdout.write("joined\n")
        sys.stdout.flush()
        while every_s:
            time.sleep(every_s)
            socket.recv_multipart()
        zmq.proxy(socket, nobody)  # nobody reads there: what comes is thrown away, without Python


if __name__ == "__main__":
    read(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
