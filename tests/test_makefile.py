from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_virtual_environment_that_is_there_learns_to_see_the_systems_packages(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    venv.create(folder)
    (folder / "bin" / "pip").touch()
    assert "include-system-site-packages = false" in (folder / "pyvenv.cfg").read_text()
    wanted = ("SYSTEM_PACKAGES=1", f"VENV={folder}", f"PYTHON={sys.executable}")
    plan = subprocess.run(["make", "--dry-run", "demo", *wanted], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--system-site-packages" in plan.stdout
    subprocess.run(["make", *wanted, str(folder / "system.done")], cwd=ROOT, check=True)
    assert "include-system-site-packages = true" in (folder / "pyvenv.cfg").read_text()
    assert (folder / "bin" / "pip").is_file()
