"""What a Dockerfile says, as far as ours say anything."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.errors import ToolError

_IGNORED = ("EXPOSE", "LABEL", "VOLUME")


@dataclass(frozen=True, slots=True)
class Run:
    """A shell command, in a folder of the image."""

    command: str
    folder: str


@dataclass(frozen=True, slots=True)
class Copy:
    """Files and folders that come from the checkout, or from the stage `of`; folders give what is in them."""

    sources: tuple[str, ...]
    target: str
    of: str = ""


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    steps: list[Run | Copy] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def read_dockerfile(path: Path) -> list[Stage]:
    """The stages. ToolError for an instruction that is not known here."""
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for word, rest in _instructions(path.read_text(encoding="utf-8")):
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, *named = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], rest).split()
            stages.append(Stage(base, named[1] if named else ""))
        elif word not in _IGNORED:
            _add(stages[-1], word, rest, f"{path.name}: {word}")
    return stages


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction and what it is given, in one line."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _add(stage: Stage, word: str, rest: str, where: str) -> None:
    """Let an instruction change a stage."""
    if word == "RUN":
        stage.steps.append(Run(rest, stage.folder))
    elif word == "COPY":
        *sources, target = rest.split()
        of = sources.pop(0).removeprefix("--from=") if sources[0].startswith("--from=") else ""
        stage.steps.append(Copy(tuple(sources), str(Path(stage.folder) / target), of))
    elif word == "ENV":
        stage.environment |= {name: value for name, _, value in (pair.partition("=") for pair in shlex.split(rest))}
    elif word == "WORKDIR":
        stage.folder = str(Path(stage.folder) / rest)
    elif word == "USER":
        stage.user = rest
    elif word in ("ENTRYPOINT", "CMD"):
        setattr(stage, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[word], json.loads(rest))
    elif word == "HEALTHCHECK":
        stage.health = json.loads(rest.partition("CMD ")[2])
    else:
        raise ToolError(f"{where} is not known here; teach tools/image/dockerfile.py")
