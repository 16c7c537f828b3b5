"""What a command is started in and writes to: any encoding, closed or full outputs, arguments that hold secrets."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from streamer.text import redact, shown_address

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def prepare() -> None:
    """Let everything be printed: what the encoding lacks as question marks, and into nothing where output is closed.

    A descriptor that is closed would be given to the next file or socket, and then be written into.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def no_room(error: OSError) -> str:
    """The sentence for an output that takes no more; "" for another error."""
    if error.errno not in _NO_ROOM:
        return ""
    return f"{error.filename or 'the output'}: cannot be written: {error.strerror}; free some space, or write elsewhere"


def let_go() -> None:
    """Forget what standard output has not taken: Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def usage(error: Any, arguments: Sequence[str]) -> int:
    """Show typer's error about the command line, which repeats arguments, without their secrets; the exit code."""
    message = str(error.message)
    for argument in sorted({part for one in arguments for part in (one, one.partition("=")[2])}, key=len, reverse=True):
        for form in (argument, repr(argument)[1:-1]):
            message = message.replace(form, shown_address(argument)) if argument else message
    error.message = redact(message)
    error.show()
    return int(error.exit_code)
