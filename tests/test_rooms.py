"""Each package tells in its docstring which file is what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(init.parent for top in ("streamer", "engines", "tools") for init in (ROOT / top).glob("*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=[str(room.relative_to(ROOT)) for room in ROOMS])
def test_the_docstring_of_a_package_names_its_files_and_no_others(room: Path) -> None:
    told = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    named = set(re.findall(r"(?<![\w/])\w+\.py\b", told))
    files = {path.name for path in room.glob("*.py")}
    assert named <= files
    assert files - named <= {"__init__.py", "__main__.py"}


def test_there_are_rooms() -> None:
    assert len(ROOMS) > 20
