"""Docstrings and tables as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

MADE = "<!-- made from the code by `python -m tools.docs`: change it there -->\n"
_COLUMNS = re.compile(r"(\w[\w, /.|<>=`-]*?)  +(\S.*)")  # `name   what it is`, as docstrings here list things


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar within a cell is escaped, code in backticks included."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def one_line(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


def docstring(thing: object) -> str:
    """The docstring of a class or function as Markdown: paragraphs, lists of `name   what it is`, indented code."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    return "\n\n".join(_paragraph(paragraph) for paragraph in text.split("\n\n"))


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if all(line.startswith("    ") for line in lines):
        return text
    if not _COLUMNS.fullmatch(lines[0]):
        return escape(one_line(text))
    items: list[str] = []
    for line in lines:
        column = _COLUMNS.fullmatch(line)
        if column and not line.startswith(" "):
            items.append(f"- `{column[1]}`: {escape(column[2])}")
        else:
            items[-1] += f" {escape(line.strip())}"
    return "\n".join(items)


def escape(text: str) -> str:
    """Text outside of code whose angle brackets and stars shall be seen."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", "\\*") for piece in pieces[::2]]
    return "`".join(pieces)
