"""Attacks by what a run is told to read: sources that are added, and files of somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import engines
from tools.attack.target import Attack, Target

SECRET = "s3cr3t-of-the-attack"
PATIENCE_S = 30.0
SOURCES = (
    "7" * 59, "/dev/" + "a" * 300, "file:a\0b", "pattern://swipe?fps=1000000&size=9999x9999", "file:/dev/zero",
    "file:/dev/urandom", "/etc/passwd", "/proc/self/environ", "concat:/etc/passwd|/etc/group", "/dev/null", "\u0663",
    "subfile,,start,0,end,0,,:/etc/passwd", "http://127.0.0.1:1/\0b", "http://[", "v4l2:" + "a" * 2000, "a" * 2048,
    "http://127.0.0.1:1/" + "://" * 600, "file:" + "a/" * 1000, "\ud7ff.mp4", "pattern://swipe?seed=" + "9" * 2000,
)  # fmt: skip


def odd_sources(target: Target) -> None:
    """Sources that are no video, are without end, or have names that cannot be."""
    for _ in target.moments():
        for number, uri in enumerate(SOURCES):
            if target.add(uri, f"odd{number}"):
                time.sleep(0.05)
                target.remove(f"odd{number}")


def pipes(target: Target) -> None:
    """Fifty sources that are pipes which nobody writes into."""
    path = target.folder / "pipe"
    if not path.exists():
        os.mkfifo(path)
    for _ in range(50):
        if target.add(f"file:{path}", "pipe"):
            target.remove("pipe")


def _streamer(*arguments: str, **variables: str) -> tuple[int, str]:
    """A command of the program: its exit code, or 124 if it does not end, and all that it said."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", *arguments], env=mine | variables, capture_output=True, text=True,
            errors="replace", timeout=PATIENCE_S, check=False,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"no end within {PATIENCE_S:g} s"
    return done.returncode, done.stdout + done.stderr


def _model(folder: Path, **changes: object) -> Path:
    """The shipped model, as somebody else would give it away."""
    weights = Path(engines.__file__).parent / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights / "default.onnx", folder)
    sidecar = json.loads((weights / "default.json").read_text())
    (folder / "default.json").write_text(json.dumps(sidecar | changes))
    return folder / "default.onnx"


def model_files(target: Target) -> list[str]:
    """Models whose sidecars name other places, or values that cannot be."""
    problems = []
    changes: tuple[dict[str, object], ...] = (
        {"name": "../../pwned/x"},
        {"name": "\x1b]0;pwned\x07"},
        {"rate_hz": 0},
        {"height": 10**6},
        {"frames": -3},
    )
    for number, change in enumerate(changes):
        path = _model(target.folder / f"model{number}{time.monotonic_ns()}", **change)
        code, said = _streamer(
            "run", "pattern://swipe?duration=1", "--no-publish", "--set", "control=null", "--headless",
            "--model", str(path), ACTION_STREAMER_CACHE=str(target.folder / "a" / "cache"),
        )  # fmt: skip
        if code != 4 or "Traceback" in said or "\x1b]0" in said:
            problems.append(f"the sidecar {change} ended with {code}: {said[-80:]!r}")
    if (target.folder / "pwned").exists():
        problems.append("a model's name made the run write outside its cache")
    return problems


def configurations(target: Target) -> list[str]:
    """Files of YAML that grow when they are read, hold themselves, or are nested deeply."""
    bomb = "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n} {{{', '.join(f'k{key}: *a{n - 1}' for key in range(9))}}}\n" for n in range(1, 10)
    )
    problems = []
    for name, text in (("bomb", bomb), ("loop", "a: &a {b: *a}\n"), ("deep", "a: " + "[" * 5000 + "]" * 5000)):
        path = target.folder / f"{name}.yaml"
        path.write_text(text)
        code, said = _streamer("config", "-c", str(path))
        if code != 2 or "Traceback" in said:
            problems.append(f"{name}.yaml ended with {code}: {said[-80:]!r}")
    return problems


def secrets(target: Target) -> list[str]:
    """Passwords in addresses, where cameras have them."""
    host = "127.0.0.1:1"
    uris = (
        f"rtsp://{host}/user=admin_password={SECRET}_channel=1_stream=0.sdp", f"http://{host}/?access_token={SECRET}",
        f"rtsp://admin:{SECRET}@{host}/a", f"http://{host}/?psw={SECRET}", f"rtsp://admin:a@{SECRET}@{host}/",
        f"http://{host}/;password={SECRET}", f"http://{host}/#token={SECRET}",
    )  # fmt: skip
    start = target.program.log.stat().st_size
    problems = []
    for number, uri in enumerate(uris):
        target.add(uri, f"secret{number}")
    for _ in target.moments(0.1):
        pass
    told = [json.dumps(target.program.ask("status")), json.dumps(target.program.ask("snapshot"))]
    told += [target.program.log.read_text()[start:], target.program.get("/healthz")[1].decode()]
    for number in range(len(uris)):
        target.remove(f"secret{number}")
    for where, text in zip(("status", "snapshot", "the log", "/healthz"), told, strict=True):
        if SECRET in text:
            problems.append(f"{where} tells a password")
    return problems


ATTACKS = (
    Attack("odd-sources", "sources that are no video, or cannot be", odd_sources),
    Attack("pipes", "fifty pipes as sources", pipes),
    Attack("model-files", "models whose sidecars cannot be", model_files),
    Attack("configurations", "configuration files that grow", configurations),
    Attack("secrets", "passwords in addresses", secrets),
)
