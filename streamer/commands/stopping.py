"""How a signal ends a command that goes on by itself."""

from __future__ import annotations

import os
import select
import signal
import threading


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and SIGHUP set; the second time the first two end the program at once.

    SIGHUP: the terminal is gone, so what would be told there is told nobody. `nohup` is obeyed.
    """
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        if number == hang_up:  # may come twice, from the terminal and from the shell
            silence_what_hung_up()
        else:
            signal.signal(number, signal.SIG_DFL)

    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    for number in filter(None, (signal.SIGINT, signal.SIGTERM, hang_up)):
        if number != hang_up or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    return stop


def silence_what_hung_up() -> None:
    """Let standard output and error lead nowhere where nobody is at their other end any more."""
    for descriptor in (1, 2):
        poller = select.poll()
        poller.register(descriptor, 0)
        if poller.poll(0):  # an error or a hang-up
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
