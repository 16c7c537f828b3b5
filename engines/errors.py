"""The one error of this package, and what its messages share: the name that was meant, the extra that is missing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path


class EngineError(Exception):
    """A model or a runtime that cannot be used; the message says what, where and what to do."""

    exit_code = 4


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", write: Callable[[str], str] = repr) -> str:
    """`did you mean 'door'?` for the known name nearest to `name`, as `write` writes it; without one, `otherwise`."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.5)
    return f"did you mean {write(near[0])}?" if near else otherwise


def unknown(what: str, value: str, known: Iterable[str]) -> EngineError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = list(known)
    hint = did_you_mean(value, names)
    return EngineError(f"unknown {what} {value!r}: {hint}{' ' * bool(hint)}known are {', '.join(names)}")


JETSON = Path("/etc/nv_tegra_release")  # is there on a Jetson, whose TensorRT comes with its system


def install(extra: str) -> str:
    """The command that brings what an extra of this project needs."""
    if extra == "tensorrt" and JETSON.exists():
        return (
            "sudo apt install python3-libnvinfer, and a virtual environment that sees it: make demo SYSTEM_PACKAGES=1 "
            "(python3 -m venv --system-site-packages)"
        )
    return f"pip install 'action-streamer[{extra}]'"
