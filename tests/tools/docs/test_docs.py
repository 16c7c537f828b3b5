"""The documentation says what the code says: what is made of it, and what it shows."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamer.commands.keys import FIRST, all_keys, keys, section_of
from streamer.config import Config
from streamer.fleet.config import FleetConfig
from tests.tools.docs.pages import PAGES, ROOT, fences, shell_lines, texts
from tools import docs
from tools.docs.__main__ import main
from tools.docs.commands import commands
from tools.docs.markdown import docstring, table

KEYS_OF_0_1_0 = set(Path(__file__).with_name("keys_0_1_0.txt").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name: str) -> None:
    kept = (ROOT / docs.FOLDER / name).read_text(encoding="utf-8")
    assert kept == docs.PAGES[name](), "run `python -m tools.docs`"


def test_the_pages_are_written_once_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / docs.FOLDER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    main()
    assert {path.name for path in (tmp_path / docs.FOLDER).iterdir()} == set(docs.PAGES)
    assert "configuration.md" in capsys.readouterr().out
    main()
    assert capsys.readouterr().out == ""


def test_every_configuration_key_has_a_description() -> None:
    assert [key.path for key in all_keys() if not key.field.description and not section_of(key.annotation)] == []


def test_every_key_of_a_fleets_file_is_on_its_page_with_a_description() -> None:
    page = (ROOT / docs.FOLDER / "fleet.md").read_text(encoding="utf-8")
    for key in keys(FleetConfig):
        assert key.field.description
        assert f"| `{key.path}` | {key.field.description.split(',')[0]}" in page
    assert "| `sources.0.near` |" in page
    assert "| `curve.secret_key_file` |" in page


def test_a_configuration_key_that_0_1_0_did_not_have_says_since_when_it_is_there() -> None:
    assert {key.path for key in all_keys() if key.since == FIRST} - KEYS_OF_0_1_0 == set()


def test_no_configuration_key_of_0_1_0_is_gone() -> None:
    assert KEYS_OF_0_1_0 - {key.path for key in all_keys()} == set()


def test_commands_in_the_documentation_exist_with_the_options_that_are_shown() -> None:
    known = dict(commands())
    wrong, seen = [], 0
    for page, line in shell_lines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["streamer"] or words == ["streamer"]:
            continue
        seen += 1
        name = " ".join(words[:3]) if " ".join(words[:3]) in known else " ".join(words[:2])
        options = {option for p in getattr(known.get(name), "params", []) for option in [*p.opts, "--help"]}
        given = {word for word in words[2:] if re.match(r"--?[a-z]", word)}
        if name not in known or given - options:
            wrong.append(f"{page}: {line}")
    assert wrong == []
    assert seen > 20


def test_tools_in_the_documentation_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"python -m (tools[\w.]*\w)", page.read_text("utf-8"))}
    assert "tools.compare" in named
    assert {name for name in named if importlib.util.find_spec(name) is None} == set()


def test_targets_of_make_in_the_documentation_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {word for _, line in shell_lines() for word in re.findall(r"^make ([a-z]+)", line)}
    assert {"demo", "test", "docs"} <= named <= made


def test_configurations_in_the_documentation_are_valid() -> None:
    blocks = list(fences("yaml"))
    for page, block in blocks:
        kind = FleetConfig if page == "fleet.md" else Config
        kind.model_validate(yaml.safe_load(block))
    assert blocks


def test_python_in_the_documentation_imports_what_exists() -> None:
    blocks = list(fences("python"))
    assert blocks
    for page, block in blocks:
        if page == "python.md":
            continue  # signatures
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module in ("streamer", "engines"):
                module = importlib.import_module(node.module)
                assert {name.name for name in node.names} <= set(module.__all__), page


def test_files_that_are_named_anywhere_exist() -> None:
    named = re.compile(r"\b(?:docs|configs|examples)/[\w/.-]+\.\w+")
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert missing == set()


def test_links_of_pages_beside_the_documentation_lead_somewhere() -> None:
    for page in PAGES:
        if page.parent == ROOT:
            links = re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text(encoding="utf-8"))
            assert {link for link in links if not (ROOT / link).exists()} == set(), page.name


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 10_000
    fetched = re.compile(r"<(?:script|img|link)[^>]+(?:src|href)=\"?(?:https?:)?//[^\s\">]+")
    for page in tmp_path.rglob("*.html"):
        assert fetched.findall(page.read_text(encoding="utf-8")) == [], page


def test_a_docstring_becomes_paragraphs_lists_and_code() -> None:
    def described() -> None:
        """Takes a clip of [T, <H>, W].

        name   what it is called, and
               more of it
        a, b   `*` and *

            code = 1
        """

    assert docstring(described) == (
        "Takes a clip of [T, &lt;H>, W].\n\n"
        "- `name`: what it is called, and more of it\n- `a, b`: `*` and \\*\n\n"
        "    code = 1"
    )


def test_a_bar_in_a_table_stays_in_its_cell() -> None:
    assert table(("a", "b"), [("`x|y`", "two\nlines")]) == "| a | b |\n| --- | --- |\n| `x\\|y` | two lines |"


def test_the_checks_before_a_commit_are_those_of_make_test() -> None:
    target = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert target
    programs = re.findall(r"(?:\.venv|\$\(VENV\))/bin/(\w[\w-]*(?: (?:check|format --check))?)", target[1])
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert len(programs) >= 5
    assert [program for program in programs if f".venv/bin/{program}" not in hooks] == []


def test_the_changelog_tells_of_the_version_that_is_packaged() -> None:
    packaged = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert packaged
    assert f"## [{packaged[1]}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
