"""Secret keys where containers get them: symlinks into a folder with a date, modes that nobody here can change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
set -e
mount -t tmpfs secrets "$1"
mkdir "$1/..2026_01_01"
"$2" -m streamer keygen "$1/..2026_01_01/server" > /dev/null
ln -s ..2026_01_01 "$1/..data"
ln -s ..data/server.key_secret "$1/server.key_secret"
chmod "$3" "$1/..2026_01_01/server.key_secret"
mount -o "remount,$4" "$1"
exec "$2" -c "import sys, pathlib
from streamer.labels.curve import read_secret
print(len(read_secret(pathlib.Path(sys.argv[1]))))" "$1/server.key_secret"
"""


@pytest.mark.parametrize(
    ("mode", "mount", "accepted"),
    [
        ("440", "rw", True),  # Kubernetes with fsGroup; the file is root's
        ("640", "rw", True),
        ("444", "ro", True),  # Docker
        ("644", "ro", True),  # Kubernetes without a defaultMode
        ("444", "rw", False),
        ("460", "rw", False),
    ],
)
def test_a_secret_key_is_taken_from_a_mount_with_its_mode(
    mode: str, mount: str, accepted: bool, tmp_path: Path
) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("nothing may be mounted here, not even in a namespace of its own")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable, mode, mount],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if accepted:
        assert (done.returncode, done.stdout) == (0, "32\n"), done.stderr
    else:
        assert f"others may read it (mode {mode}); run chmod 600" in done.stderr
        assert "mount it read-only" in done.stderr
