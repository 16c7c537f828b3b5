"""Files that tools write their results into: whole, or not at all, and never over what they read."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from engines.files import same_file, write_whole
from tools.errors import ToolError


def write_result(option: str, path: Path, content: bytes) -> None:
    """Write a file that an option asks for. Raises ToolError."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise ToolError(f"{option} {path}: cannot be written: {error.strerror}") from error


def keep_result(parser: ArgumentParser, path: Path, content: bytes) -> None:
    """As `write_result`, for --json of a tool that has printed its results: then it ends with a sentence and code 2."""
    try:
        write_result("--json", path, content)
    except ToolError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def check_result(option: str, path: Path | None, inputs: Iterable[Path]) -> None:
    """Raise ToolError if the file of an option is one of the inputs, or cannot be written: before the work is done."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise ToolError(f"{option} {path}: cannot be written: there is no folder {path.absolute().parent}")
    for read in inputs:
        if same_file(path, read):
            raise ToolError(f"{option} {path}: this is a file that is read; give another name")
