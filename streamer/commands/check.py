"""`streamer check`: what works on this machine, in lines for people."""

from __future__ import annotations

import importlib
import math
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec
import typer
import yaml

from engines import BACKENDS, Engine, EngineError, EngineSpec, find_models, load_engine
from engines.cache import cache_folder
from engines.loading import choose_backend, why_not
from engines.spec import check_file, read_spec
from streamer.commands import trials
from streamer.sources.hardware import no_decoder

Line = tuple[str, bool]


def report() -> Iterator[Line]:
    """Lines, each with whether it is good; bad is only what the program cannot do without."""
    yield f"version   {metadata.version('action-streamer')}", True
    yield f"python    {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}", True
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    without = "no /dev/video*; rtsp://, http://, files and pattern:// work without"
    yield f"cameras   {', '.join(cameras) or without}", True
    yield f"video     {library('av', 'PyAV')}, {library('cv2', 'OpenCV')}", True
    missing = no_decoder()
    yield f"hwaccel   cuda: {'not here: ' + missing if missing else 'FFmpeg finds a GPU'}", True
    yield from trial_reports()
    for backend in BACKENDS:
        missing = why_not(backend)
        yield f"backend   {backend}: {'not here: ' + missing if missing else 'ok'}", True
    for name, sidecar in find_models().items():
        yield from model_report(name, sidecar)
    for sidecar in sorted((cache_folder() / "tensorrt").glob("*.json")):
        yield from engine_report(sidecar)


def trial_reports() -> Iterator[Line]:
    """Whether video, network cameras and the label stream work here: each is tried with a small one of its own."""
    for name, works, trial in (
        ("file", "a video is written and read", trials.try_video),
        ("rtsp", "a camera on 127.0.0.1 is watched", trials.try_camera),
        ("labels", "a message is published and received", trials.try_labels),
    ):
        fault = trials.fault(trial)
        yield f"{name:9} {f'FAILS: {fault}' if fault else f'ok, {works}'}", fault is None


def model_report(name: str, sidecar: Path) -> Iterator[Line]:
    """Whether a shipped model is whole and runs, on what and why, and its certificates."""
    try:
        engine = load_engine(name)
        for file in read_spec(sidecar).files:
            check_file(sidecar.parent / file, engine.spec)
        engine.new_state(1)
        _, why = choose_backend(sidecar, "auto", 1)
    except EngineError as error:
        yield f"model     {name}: {error}", False
        return
    yield f"model     {engine.spec.version}: ok, {engine.device}", True
    yield f"auto      {name} runs on {engine.backend}: {why}", True
    yield from certificate_reports(engine)
    if told := engine.spec.events:
        values = yaml.safe_dump(msgspec.to_builtins(told), default_flow_style=True, allow_unicode=True, width=10_000)
        yield f"          events as the model tells them, where the configuration does not: {values.strip()}", True
    engine.close()


def certificate_reports(engine: Engine) -> Iterator[Line]:
    """What the certificates of an engine's backend say, and whether they are of this machine."""
    from engines.build.certificate import processor, runtime

    again = f"`streamer build {engine.spec.name} --backend openvino` makes this machine's own"
    own = [known for known in engine.spec.certificates if known.backend == engine.backend]
    if not own:
        yield f"          no certificate for {engine.backend}; {again}", True
    for known in own:
        line = f"          certificate {known.backend} {known}"
        made = (known.runtime or "another version", known.processor or "an unknown processor")
        if known.fault:
            yield f"{line}; FAILS: {known.fault}", False
        elif engine.backend == "openvino" and made != (runtime(engine), processor(engine.spec)):
            yield f"{line}; made with {' on '.join(made)}: {again}", True
        else:
            yield line, True


def engine_report(sidecar: Path) -> Iterator[Line]:
    """Whether an engine that `streamer build` made is whole, and its certificate."""
    try:
        spec = read_spec(sidecar)
        check_file(sidecar.with_suffix(".engine"), spec)
    except EngineError as error:
        yield f"engine    {error}", False
        return
    if spec.engine is None:
        yield f"engine    {sidecar}: does not say what it was built for; delete it", False
        return
    built = f"{spec.engine.precision}, {spec.engine.rows} rows, TensorRT {spec.engine.tensorrt}, {spec.engine.gpu}"
    faults = [known.fault for known in spec.certificates if known.fault]
    told = (
        f"FAILS its certificate: {faults[0]}" if faults else "; ".join(map(str, spec.certificates)) or "no certificate"
    )
    yield f"engine    {sidecar.with_suffix('.engine')}: {built}; {told}", not faults


def model_lines(*, with_labels: bool) -> Iterator[str]:
    """The shipped models, a line each, and their labels if asked for."""
    for sidecar in find_models().values():
        spec = read_spec(sidecar)
        yield f"{spec.name}: {describe(spec)}"
        if with_labels:
            yield from (f"    {label}" for label in spec.labels)


def describe(spec: EngineSpec) -> str:
    """What a model is and what it costs, in a line; the state as fp32 keeps it."""
    state_kib = 4 * sum(math.prod(state.shape) for state in spec.states) / 1024
    hop = f" (every {spec.hop} frames)" if spec.hop > 1 else ""
    return (
        f"{spec.network} on {spec.backbone} (width {spec.channel_width:g}), {len(spec.labels)} labels, "
        f"{spec.width}x{spec.height} at {spec.rate_hz:g} frames a second, {spec.frames} frames of memory, "
        f"{spec.mode} mode{hop}; {(spec.parameters or 0) / 1e6:.2f} M parameters, "
        f"{(spec.step_macs or 0) / 1e6:.0f} M multiply-adds a step, {state_kib:.0f} KiB of state a stream (fp32), "
        f"latency {spec.latency} frames"
    )


def library(name: str, title: str) -> str:
    """A library's title and version, or why it cannot be loaded."""
    try:
        return f"{title} {importlib.import_module(name).__version__}"
    except ImportError as error:
        return f"{title} cannot be loaded ({error})"


def check() -> None:
    """Tell what works on this machine: cameras, backends with reasons, model files."""
    healthy = True
    for line, good in report():
        typer.echo(line)
        healthy &= good
    if not healthy:
        raise typer.Exit(EngineError.exit_code)
