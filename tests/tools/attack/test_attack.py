"""The short form of the attacks: some of each kind against a real run, a moment each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.attack import __main__ as tool
from tools.attack import stage
from tools.attack.__main__ import ATTACKS, main, run
from tools.attack.judge import Row, as_json, left_behind, line, phase
from tools.attack.target import Attack, Target
from tools.peers.usage import Usage

QUIET = Usage(100.0, 20, 40, 2)
SHORT = (
    "http-to-zeromq", "old-zmtp", "endless-empty-parts", "subscriptions", "silent-connections", "request-flood",
    "odd-requests", "odd-changes", "odd-sources", "redirecting-rtsp", "crowded-rtsp", "odd-asks", "foreign-posts",
    "odd-posts",
)  # fmt: skip


def test_a_run_that_is_attacked_lets_nobody_in_and_goes_on() -> None:
    rows = list(run([one for one in ATTACKS if one.name in SHORT], seconds=0.3))
    assert [row.attack for row in rows] == [*SHORT, "end"]
    for row in rows:
        # how much memory the C library keeps is told, and does not decide
        assert [problem for problem in row.problems if not problem.startswith("memory")] == [], row.attack
        if row.before and row.after:
            assert row.after.usage.mib < 2 * row.before.usage.mib
            assert row.before.labels
            assert row.after.labels
            assert row.age_ratio is not None


def test_an_attack_that_gets_in_fails_its_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def intrude(target: Target) -> list[str]:
        target.add("pattern://still?size=64x48", "intruder")
        return ["got in"]

    def end(target: Target) -> None:
        target.program.ask("drain")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "REST_S", 0.5)
        patched.setattr(tool, "ATTACKS", (Attack("intruder", "adds a stream", intrude), Attack("end", "ends it", end)))
        assert main(["--seconds", "0.3", "--json", str(tmp_path / "rows.json")]) == 1
    intruder, ended, _ = json.loads((tmp_path / "rows.json").read_text())
    assert intruder["problems"][:2] == ["got in", "its streams are ['door', 'intruder']"]
    assert not ended["passed"]
    assert "FAILED: got in" in capsys.readouterr().out


def test_memory_that_stays_once_is_told_and_memory_that_grows_fails() -> None:
    def rows(*mib: float) -> Row:
        usages = [replace(QUIET, mib=one) for one in mib]

        class Scripted(stage.Stage):
            def __init__(self) -> None:
                pass

            def _play(self, attack: Attack) -> Row:
                before, after = usages.pop(0), usages.pop(0)
                phases = [phase(usage, usage.mib, [1.0]) for usage in (before, after)]
                return Row(attack.name, phases[0], phases[0], phases[1], left_behind(before, after))

        return Scripted().play(Attack("takes", "memory", lambda _: None))

    assert (rows(100, 105).passed, rows(100, 105).kept_mib) == (True, 0)
    assert (rows(100, 140, 140, 141).passed, rows(100, 140, 140, 141).kept_mib) == (True, 40)
    assert not rows(100, 140, 140, 180).passed


def test_what_is_left_behind_is_told() -> None:
    assert left_behind(QUIET, QUIET) == []
    assert left_behind(QUIET, Usage(109.0, 19, 40, 1)) == []
    assert left_behind(QUIET, Usage(111.0, 22, 45, 3)) == [
        "memory 100 MiB before, 111 MiB after",
        "2 threads are left behind",
        "5 descriptors are left behind",
        "1 processes are left behind",
    ]


def test_a_row_is_told_to_people_and_machines() -> None:
    calm, busy = phase(QUIET, 100.0, [1.0] * 99 + [5.0]), phase(QUIET, 130.0, [20.0])
    row = Row("flood", calm, busy, phase(QUIET, 100.0, []))
    assert (calm.age_ms_p50, calm.age_ms_p99, row.age_ratio, row.passed) == (1.0, 5.0, 4.0, True)
    assert line(row).split() == ["flood", "100/130/100", "5/20/0", "1", "ok"]
    assert as_json(row)["during"]["peak_mib"] == 130.0
    assert line(replace(row, kept_mib=12.3)).endswith("ok; the first time left 12 MiB")
    skipped = Row("page", skipped="no page")
    assert (skipped.passed, skipped.age_ratio) == (None, None)
    assert line(skipped).endswith("skipped: no page")
    assert line(Row("end", problems=["left processes behind"])).endswith("left processes behind")


def test_the_attacks_are_listed_and_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "http"]) == 0
    assert capsys.readouterr().out.split()[0] == "http-to-zeromq"
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "there is no such attack" in capsys.readouterr().err
    assert len({one.name for one in ATTACKS}) == len(ATTACKS)
