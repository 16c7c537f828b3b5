from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

import streamer.pipeline

PACKAGE = Path(streamer.pipeline.__file__).parent
WAY = streamer.pipeline.__doc__ or ""


def test_the_way_of_a_frame_names_only_what_is_there() -> None:
    names = re.findall(r"`([\w.]+)`", WAY)
    files = {PACKAGE / name if "/" not in name else PACKAGE.parent / name for name in re.findall(r"[\w/]+\.py", WAY)}
    assert len(names) > 10
    modules = [
        importlib.import_module(".".join(file.relative_to(PACKAGE.parent.parent).with_suffix("").parts))
        for file in files
    ]
    for name in names:
        first, *rest = name.split(".")
        (home,) = [
            module for module in modules if getattr(vars(module).get(first), "__module__", "") == module.__name__
        ]
        assert callable(reduce(getattr, rest, vars(home)[first])), name


def test_each_step_stands_in_the_file_that_its_line_names() -> None:
    steps = re.findall(r"^(\w+)\.py +`(\w+)", WAY, re.MULTILINE)
    assert len(steps) > 10
    for file, name in steps:
        assert re.search(rf"^(class|def) {name}\b", (PACKAGE / f"{file}.py").read_text(), re.MULTILINE), (file, name)
