from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_a_minute_of_trouble_leaves_a_run_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tools.soak", "--minutes", "1", "--seed", "7", "--json", str(file)]
    soak = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    report = json.loads(file.read_text())
    assert report["problems"] == []
    assert sum(report["faults"].values()) >= 30
    assert report["messages"]["score"] >= 500
    assert sum(report["event_ends"].values()) >= 20
    assert {one["measure"]: one["flat"] for one in report["growth"]} == dict.fromkeys(
        ("mib", "threads", "descriptors", "processes"), True
    )
