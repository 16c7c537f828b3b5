"""What works on this machine, in lines for people."""

from __future__ import annotations

import importlib
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from engines import BACKENDS, EngineError, EngineSpec, find_models, load_engine
from engines.loading import why_not
from engines.spec import check_file, read_spec


def report() -> Iterator[tuple[str, bool]]:
    """Lines, each with whether it is good; bad is only what the program cannot do without."""
    yield f"python    {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}", True
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    without = "no /dev/video*; rtsp://, http://, files and pattern:// work without"
    yield f"cameras   {', '.join(cameras) or without}", True
    yield f"video     {library('av', 'PyAV')}, {library('cv2', 'OpenCV')}", True
    for backend in BACKENDS:
        missing = why_not(backend)
        yield f"backend   {backend}: {'not here: ' + missing if missing else 'ok'}", True
    yield from map(model_report, find_models())


def model_report(name: str) -> tuple[str, bool]:
    """Whether a shipped model is whole and runs."""
    try:
        engine = load_engine(name)
        for file in engine.spec.files:
            check_file(find_models()[name].parent / file, engine.spec)
        engine.new_state(1)
    except EngineError as error:
        return f"model     {name}: {error}", False
    engine.close()
    return f"model     {engine.spec.version}: ok, {engine.device}", True


def model_lines(*, with_labels: bool) -> Iterator[str]:
    """The shipped models, a line each, and their labels if asked for."""
    for sidecar in find_models().values():
        spec = read_spec(sidecar)
        yield f"{spec.name}: {describe(spec)}"
        if with_labels:
            yield from (f"    {label}" for label in spec.labels)


def describe(spec: EngineSpec) -> str:
    """What a model is and what it costs, in a line; the state as fp16 keeps it."""
    state_kib = 2 * sum(math.prod(state.shape) for state in spec.states) / 1024
    hop = f" (every {spec.hop} frames)" if spec.hop > 1 else ""
    return (
        f"{spec.network} on {spec.backbone} (width {spec.channel_width:g}), {len(spec.labels)} labels, "
        f"{spec.width}x{spec.height} at {spec.rate_hz:g} frames a second, {spec.frames} frames of memory, "
        f"{spec.mode} mode{hop}; {(spec.parameters or 0) / 1e6:.2f} M parameters, "
        f"{(spec.step_macs or 0) / 1e6:.0f} M multiply-adds a step, {state_kib:.0f} KiB of state a stream (fp16), "
        f"latency {spec.latency} frames"
    )


def library(name: str, title: str) -> str:
    """A library's title and version, or why it cannot be loaded."""
    try:
        return f"{title} {importlib.import_module(name).__version__}"
    except ImportError as error:
        return f"{title} cannot be loaded ({error})"
