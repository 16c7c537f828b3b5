"""What the tests of the documentation read: its pages, and the code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
_FIRST = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = [*(ROOT / name for name in _FIRST), *sorted((ROOT / "docs").rglob("*.md"))]


def fences(language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a language: the page's name and the block."""
    for page in PAGES:
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            yield page.name, block


def shell_lines() -> Iterator[tuple[str, str]]:
    """The lines of commands, indented by four spaces, continuations joined: the page's name and the line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^    (?:\$ )?(\S.*)$", text, re.M):
            yield page.name, line


def texts() -> Iterator[Path]:
    """The files whose text may name others, but for the tests."""
    for folder in ("streamer", "engines", "tools", "configs", "examples", "docs"):
        for suffix in (".md", ".py", ".yaml", ".sh", ".service", ".js"):
            yield from (ROOT / folder).rglob(f"*{suffix}")
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "pyproject.toml")
    yield from (ROOT / name for name in names)
