"""The Dockerfiles, without a container engine. `python -m tools.image` makes the image's folders and tries them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.settings import load_settings
from tests.tools.docs.pages import ROOT
from tools.docs.commands import commands
from tools.errors import ToolError
from tools.image.__main__ import healthy
from tools.image.dockerfile import Copy, Run, read_dockerfile
from tools.image.root import BASE, try_program

DOCKERFILES = sorted(ROOT.glob("Dockerfile*"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
OPTIONS = {
    name.removeprefix("streamer "): {name for p in command.params for name in p.opts} for name, command in commands()
}
"""The options of every command, by its name."""
SYSTEM = "/usr/bin/python3"  # which every user can run


def pinned(name: str) -> dict[str, str]:
    """The packages of a lock file, with their conditions, and their versions."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return {
        f"{package}{condition}": version
        for package, version, condition in re.findall(r"^(\S+)==(\S+)(.*)$", text, re.M)
    }


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_a_dockerfile_copies_is_there(path: Path) -> None:
    stages = read_dockerfile(path)
    names = {stage.name for stage in stages}
    for stage in stages:
        for step in stage.steps:
            if isinstance(step, Copy) and step.of:
                assert step.of in names
            elif isinstance(step, Copy):
                assert all((ROOT / source).exists() for source in step.sources)


@pytest.mark.parametrize("path", [path for path in DOCKERFILES if path.suffix != ".jetson"], ids=lambda path: path.name)
def test_an_image_runs_as_a_user_with_a_number_who_owns_nothing(path: Path) -> None:
    stage = read_dockerfile(path)[-1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage.user)


def test_the_image_is_what_the_tests_had_and_what_a_builder_can_make_here() -> None:
    stages = read_dockerfile(ROOT / "Dockerfile")
    assert [stage.base for stage in stages] == [BASE, BASE]
    assert pinned("base.txt").items() <= pinned("image.txt").items() <= pinned("test.txt").items()
    assert any("--require-hashes" in step.command for step in stages[0].steps if isinstance(step, Run))


def test_the_context_has_what_is_copied_and_no_more() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for stage in read_dockerfile(ROOT / "Dockerfile")
        for step in stage.steps
        if isinstance(step, Copy) and not step.of
        for source in step.sources
    }
    assert {source.partition("/")[0] for source in copied} == kept


def test_what_is_not_known_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a AS b\nONBUILD RUN true\n")
    with pytest.raises(ToolError, match="ONBUILD is not known here"):
        read_dockerfile(path)


def test_a_dockerfile_is_read_as_a_builder_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "ARG B=debian\nFROM ${B} AS one\n# no\nWORKDIR /a\nCOPY x y ./z/\nENV A=1 \\\n  B='2 3'\nRUN one \\\n  && two\n"
    )
    (stage,) = read_dockerfile(path)
    assert (stage.base, stage.name) == ("debian", "one")
    assert stage.steps == [Copy(("x", "y"), "/a/z"), Run("one && two", "/a")]
    assert stage.environment == {"A": "1", "B": "2 3"}


@pytest.mark.parametrize("name", [name for name, service in COMPOSE.items() if service["image"] == "action-streamer"])
def test_what_compose_starts_is_a_command_with_settings_that_are(name: str) -> None:
    service = COMPOSE[name]
    words = [word for word in service["command"] if not word.startswith("--")]
    command = max(set(OPTIONS) & {words[0], " ".join(words[:2])}, key=len)
    assert {word for word in service["command"] if word.startswith("--")} <= OPTIONS[command]
    load_settings(None, service.get("environment", {}))
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def _why_no_root() -> str:
    """Why this system's root cannot be made read-only for a user who is nobody; "" if it can."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        return "takes root, and unshare"
    if subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False
    ).returncode:
        return "no namespaces can be made here"
    site = sysconfig.get_paths()["purelib"]
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {site!r}]; import numpy, streamer"
    tried = ["setpriv", "--reuid", "54321", "--clear-groups", SYSTEM, "-c", code]
    if not Path(SYSTEM).exists() or subprocess.run(tried, capture_output=True, check=False).returncode:
        return f"{SYSTEM} of another version, or a checkout that others cannot read"
    return ""


@pytest.mark.skipif(bool(_why_no_root()), reason=_why_no_root())
def test_a_run_is_healthy_for_a_user_who_is_nobody_without_home_on_a_read_only_root() -> None:
    """What `python -m tools.image` does in the image's folder, on the Debian that is here."""
    stage = read_dockerfile(ROOT / "Dockerfile")[-1]
    stage.entrypoint = [SYSTEM, "-m", "streamer"]
    paths = f"{ROOT}:{sysconfig.get_paths()['purelib']}"
    environment = {**stage.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": paths}
    said = try_program(Path("/"), environment, healthy(stage, "pattern://swipe", "--headless"), 120)
    assert "Traceback" not in said
    with pytest.raises(ToolError, match="failed with 1"):
        try_program(Path("/"), environment, healthy(stage, "rtsp://127.0.0.1:1/", "--duration", "1"), 120)
