"""The examples for Prometheus and Grafana: they ask for what there is, and alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools.docs.pages import ROOT

ALERTS, DASHBOARD = ROOT / "examples/alerts.yaml", ROOT / "examples/grafana.json"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
ASKED = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*", "$stream": ".*"}
SERIES = {"summary": (), "histogram": ("_bucket", "_sum", "_count")}
CAME = 'streamer_frames_inferred_total{instance="a", stream="door"}'

# alert: the series that let it fire for `door` or the run `a` within 30 minutes, and those that do not
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "RunGone": (
        {'up{job="action-streamer", instance="a"}': "0x30"},
        {'up{job="action-streamer", instance="a"}': "1x30"},
    ),
    "CameraAway": ({'streamer_source_state{stream="door"}': "3x30"}, {'streamer_source_state{stream="door"}': "4x30"}),
    "CameraUnsteady": (
        {'streamer_reconnects_total{stream="door"}': "0+1x30"},
        {'streamer_reconnects_total{stream="door"}': "0x10 3x20"},
    ),
    "NothingSeen": (
        {CAME: "7x30", 'streamer_source_state{instance="a", stream="door"}': "1x30"},
        {CAME: "0+600x30", 'streamer_source_state{instance="a", stream="door"}': "1x30"},
    ),
    "EngineTooSlow": (
        {'streamer_frames_dropped_total{instance="a", reason="too_old"}': "0+60x30"},
        {'streamer_frames_dropped_total{instance="a", reason="above_rate"}': "0+600x30"},
    ),
    "LabelsLate": (
        {f'streamer_frame_age_seconds_bucket{{instance="a", le="{le}"}}': "0+60x30" for le in ("0.5", "+Inf")}
        | {'streamer_frame_age_seconds_bucket{instance="a", le="0.25"}': "0+6x30"},
        {f'streamer_frame_age_seconds_bucket{{instance="a", le="{le}"}}': "0+60x30" for le in ("0.05", "+Inf")},
    ),
    "DecoderCrashes": (
        {'streamer_decoder_crashes_total{stream="door"}': "0x10 1x20"},
        {'streamer_decoder_crashes_total{stream="door"}': "1x30"},
    ),
    "ClipsLost": (
        {'streamer_clips_dropped_total{reason="failed"}': "0x10 1x20"},
        {'streamer_clips_dropped_total{reason="no_keyframe"}': "0+1x30"},
    ),
}


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Prometheus' own judgement."""
    program = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("promtool is not here; `make test` takes it from Debian's package prometheus")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def documented() -> dict[str, set[str]]:
    """The series of docs/reference/metrics.md, which another test holds against the program, with their labels."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", page, re.M)
    return {
        f"{name}{end}": set(re.findall(r"\w+", labels)) | ({"le"} if end == "_bucket" else set())
        for name, kind, labels in rows
        for end in SERIES.get(kind, ("",))
    }


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_for_is_a_metric_that_there_is_with_its_labels(asked: str) -> None:
    known = documented() | {"up": {"job"}}
    for name, chosen in re.findall(r"\b(streamer_\w+|up)\b(?:\{([^}]*)\})?", asked):
        assert name in known
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", chosen)) <= known[name] | {"instance"}
    grouped = {
        label for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", asked) for label in re.findall(r"\w+", labels)
    }
    assert grouped <= set().union(*known.values()) | {"instance"}


def test_prometheus_reads_all_that_is_asked_for(tmp_path: Path) -> None:
    assert "8 rules found" in promtool("check", "rules", ALERTS).stdout
    rules = []
    for number, asked in enumerate(ASKED):
        for name, value in VARIABLES.items():
            asked = asked.replace(name, value)  # noqa: PLW2901
        rules.append({"record": f"asked:{number}", "expr": asked})
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=none", tmp_path / "asked.yaml")
    assert checked.returncode == 0, checked.stderr


def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    assert set(CASES) == {rule["alert"] for rule in RULES}
    tests = []
    for name, cases in CASES.items():
        for series, fires in zip(cases, (True, False), strict=True):
            inputs = [{"series": one, "values": values} for one, values in series.items()]
            expression = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
            expected = {"expr": expression, "eval_time": "29m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
            tests.append({"interval": "1m", "input_series": inputs, "promql_expr_test": [expected]})
    cases_file = tmp_path / "cases.yaml"
    cases_file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    tested = promtool("test", "rules", cases_file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_dashboard_has_a_place_and_a_meaning_for_each_panel() -> None:
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
