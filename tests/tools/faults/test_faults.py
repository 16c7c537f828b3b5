from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.cameras import missing_for_rtsp
from tools.faults.__main__ import main, run
from tools.faults.matrix import FAULTS

BUSY_S = 8.0  # bounds shall not decide here; labels, events, epochs and counters shall

HTTP = ["hung reader", "no packets, http", "end of file", "truncated packets, http", "one frame and dies, http"]
RTSP = [
    *("killed server", "frozen for a moment", "end of stream", "corrupted packets", "resolution change"),
    *("camera clock jumps", "burst after a pause"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", [HTTP, RTSP], ids=["http", "rtsp"])
def test_cameras_may_fail_and_no_wrong_label_is_told(names: list[str]) -> None:
    if names is RTSP and (reason := missing_for_rtsp()):
        pytest.skip(reason)
    rows = [row for _, row in run([FAULTS[name] for name in names], jobs=3, busy_s=BUSY_S)]
    assert [row.fault for row in rows] == names
    assert {row.fault: row.problems for row in rows if not row.passed} == {}
    assert [row.wrong_labels for row in rows] == [0] * len(names)


def test_rows_without_their_server_are_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.faults.__main__.missing_for_rtsp", lambda: "apt-get install it")
    ((_, row),) = run([FAULTS["killed server"]])
    assert row.passed is None
    assert "apt-get install it" in row.skipped


def test_a_build_that_does_not_run_fails_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    broken = "sh -c 'echo no model today >&2; exit 4'"
    assert main(["--only", "no packets, http", "--streamer", broken, "--json", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: no label (the program ended with 4: no model today)" in shown
    (row,) = json.loads(out.read_text())
    assert (row["fault"], row["passed"], row["wrong_labels"]) == ("no packets, http", False, None)
    assert row.keys() >= {"detected_s", "recovered_s", "lost_frames"}


def test_the_faults_are_listed_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line[:30].strip() for line in capsys.readouterr().out.splitlines()] == list(FAULTS)
    with pytest.raises(SystemExit):
        main(["--only", "flood"])
    assert "there is no such fault" in capsys.readouterr().err
