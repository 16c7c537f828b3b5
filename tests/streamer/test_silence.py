"""The program talks to nobody whom the user did not name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')


def cannot_trace() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False, timeout=30)
    return None if done.returncode == 0 else "strace may not trace here"


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["run", "pattern://swipe?duration=1", "--no-publish", "--set", "control=null", "--metrics", "127.0.0.1:0"],
    ],
    ids=["check", "run"],
)
def test_nothing_is_looked_up_and_nobody_is_connected_to(command: list[str], tmp_path: Path) -> None:
    if reason := cannot_trace():
        pytest.skip(reason)
    trace, home = tmp_path / "trace", tmp_path / "home"
    home.mkdir()
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-s", "120", "-o", str(trace)]
    done = subprocess.run(
        [*traced, sys.executable, "-m", "streamer", *command],
        capture_output=True, text=True, check=False, timeout=110, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    said = trace.read_text(errors="replace")
    assert done.returncode == 0, done.stderr
    assert {address for _, address in _ADDRESS.findall(said)} <= {"127.0.0.1", "::1"}
    assert not [port for port, _ in _ADDRESS.findall(said) if port == "53"]
    assert not [line for line in said.splitlines() if "google" in line]
    assert not list(home.glob("intel*"))


def test_openvinos_telemetry_is_never_loaded() -> None:
    code = """
import sys
from engines import load_engine
load_engine("default", "openvino").new_state(1)
print(sorted(name for name, module in sys.modules.items() if "telemetry" in name and module and "openvino_" in name))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
