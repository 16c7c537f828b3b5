"""`streamer run`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from engines import Engine, EngineSpec
from streamer.commands.options import (
    LABELS,
    BackendOption,
    ConfigOption,
    ModelOption,
    SetOption,
    SourceArguments,
    TokenOption,
    VerboseOption,
    make_engine,
    make_settings,
    make_sources,
)
from streamer.commands.stopping import stop_on_signals
from streamer.commands.view import DEFAULT_ADDRESS, open_page, open_window
from streamer.config import Config
from streamer.errors import ConfigError, SourceError
from streamer.health import logs
from streamer.health.memory import settled, share_heaps
from streamer.health.systemd import ServiceManager
from streamer.labels.addresses import is_taken, next_free
from streamer.sources import Source
from streamer.text import printable

if TYPE_CHECKING:
    from streamer.clips.room import Clips
    from streamer.health.monitor import Monitor
    from streamer.labels.control import Control
    from streamer.labels.publisher import Publisher


PublishOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Where to publish labels, such as tcp://127.0.0.1:5557.")
]
ViewOption = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:PORT]",
        help=f"Serve a page with pictures and labels; the address may be left out: {DEFAULT_ADDRESS}.",
    ),
]
MetricsOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Serve /metrics and /healthz, such as at 127.0.0.1:9464.")
]

EXAMPLES = """\b
Examples:
  streamer run 0 --view                          # a webcam, and a page in the browser
  streamer run 0 --model actions                 # what people do
  streamer run rtsp://192.0.2.10/stream1         # a network camera
  streamer run clip.mp4 --loop                   # a file, again and again
  streamer run -c webcam.yaml --headless         # as a service does; `streamer init webcam` wrote the file
"""


def run(
    source: SourceArguments = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    publish: PublishOption = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Publish nothing.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Play files again and again.")] = False,
    verbose: VerboseOption = False,
    headless: Annotated[bool, typer.Option("--headless", help="Show nothing but warnings and errors.")] = False,
    duration: Annotated[float | None, typer.Option(metavar="S", help="Stop after this many seconds.")] = None,
    view: ViewOption = None,
    view_token: TokenOption = None,
    window: Annotated[bool, typer.Option("--window", help="Show the stream in a window on this desk.")] = False,
    metrics: MetricsOption = None,
    log: Annotated[str, typer.Option(metavar="STYLE", help="text, or json: one object a line, for machines.")] = "text",
) -> None:
    """Recognise actions in live video and publish labels, until Ctrl-C, the end of all files or --duration."""
    share_heaps()
    logs.set_up(log)
    stop = stop_on_signals()
    if publish and no_publish:
        raise ConfigError("--publish and --no-publish exclude each other; give one of them")
    options = {"sources": source or None, "model": model, "backend": backend, "publish__address": publish}
    options |= {"view__address": view, "view__token": view_token, "metrics": metrics}
    settings = make_settings(config, set_, duration_s=duration, **options).config
    if no_publish:
        settings = settings.model_copy(update={"publish": settings.publish.model_copy(update={"address": None})})
    if loop:
        settings = with_loop(settings)
    run_pipeline(settings, stop, Console(quiet=headless), window=window, verbose=verbose)


def with_loop(settings: Config) -> Config:
    """The configuration with its files played again and again. Raises ConfigError if there are none."""
    files = [source.config for source in make_sources(settings) if source.path]
    if not files:
        raise ConfigError("--loop is for files, and none of the sources is one; leave it out")
    if any(file.pace == "fast" for file in files):
        raise ConfigError("--loop plays in real time; leave out pace: fast")
    sources = (one.model_copy(update={"loop": one in files or one.loop}) for one in settings.sources)
    return settings.model_copy(update={"sources": tuple(sources)})


def run_pipeline(
    settings: Config, stop: threading.Event, console: Console, *, window: bool, verbose: bool = False
) -> None:
    """Wire the pipeline and what is around it, run it, and tell its summary. Raises what `Pipeline.run` raises."""
    from streamer.pipeline.pipeline import Pipeline
    from streamer.view.terminal import TerminalView

    sources = make_sources(settings)
    check_free(settings)
    with ExitStack() as stack:
        monitor = open_monitor(settings, sources, console, stack)
        page = open_page(settings.view, console, stack)
        desk = open_window(sources) if window else None
        engine = make_engine(settings)
        stack.callback(engine.close)
        control, publisher = open_sockets(settings, engine.spec, stack)
        tell_start(engine, control, publisher, console, encrypts=settings.publish.curve is not None)
        views = [] if console.quiet else [stack.enter_context(TerminalView(console, sources, verbose=verbose))]
        clips = open_clips(settings, engine.spec) if settings.clips.folder else None
        probe = monitor.metrics if monitor else None
        listeners = [*views, *(listener for listener in (page, desk) if listener)]
        manager = ServiceManager(os.environ)
        pipeline = Pipeline(settings, engine, sources, publisher, listeners, control, probe, manager, clips)
        if monitor:
            monitor.watch(pipeline, publisher)
        if page and control:
            names = [name for source in sources for name in source.streams]
            changes, folder = settings.control is not None, settings.clips.folder
            page.start(pipeline.picture, pipeline.corners, names, control, changes=changes, clips=folder)
        stack.enter_context(settled())
        summary = desk.run(pipeline.run, stop, pipeline.picture) if desk else pipeline.run(stop)
        logs.log.info("stopped: %s", "; ".join(" ".join(line.split()) for line in summary.lines()))
    for line in summary.lines():
        console.print(line, highlight=False)
    if sources and not summary.captured and not pipeline.draining and not stop.is_set():
        raise SourceError(f"no source gave a frame: {'; '.join(pipeline.details()) or 'all were empty'}")


def check_free(settings: Config) -> None:
    """Raise ConfigError if others listen where this run should: it names all such addresses, and some that are free."""
    metrics, view, labels = settings.metrics, settings.view.address, settings.publish.address
    wanted = {"--publish": labels, "--view": view, "--metrics": metrics}
    taken = {option: address for option, address in wanted.items() if address and is_taken(address)}
    if not taken:
        return
    free = " ".join(f"{option} {next_free(address)}" for option, address in taken.items())
    told = f"another program uses {' and '.join(taken.values())}; stop it (another `streamer run`?)"
    raise ConfigError(f"{told}, or give this run others: {free}")


def open_monitor(settings: Config, sources: Sequence[Source], console: Console, stack: ExitStack) -> Monitor | None:
    """/metrics and /healthz, if the configuration asks for them. `stack` closes them."""
    if not settings.metrics:
        return None
    from streamer.health.monitor import Monitor

    monitor = stack.enter_context(Monitor(settings.metrics, sources))
    console.print(f"metrics http://{monitor.address}/metrics and /healthz", highlight=False, soft_wrap=True)
    return monitor


def open_clips(settings: Config, spec: EngineSpec) -> Clips:
    """Who keeps the clips."""
    from streamer.clips.room import Clips

    return Clips(settings.clips, settings.events, spec)


def open_sockets(settings: Config, spec: EngineSpec, stack: ExitStack) -> tuple[Control | None, Publisher | None]:
    """The sockets for requests and for labels, as far as the configuration asks for them."""
    from streamer.labels.control import Control
    from streamer.labels.publisher import Publisher

    publish, keys = settings.publish, settings.control_curve
    if keys and publish.curve and keys.authorized_keys_dir.resolve() == publish.curve.authorized_keys_dir.resolve():
        raise ConfigError(
            f"control_curve.authorized_keys_dir: {keys.authorized_keys_dir} is the folder of publish.curve, so whoever "
            "may read labels could control the run; make another folder"
        )
    control = None
    if settings.control:
        try:
            control = stack.enter_context(Control(settings.control, keys))
        except ConfigError as error:
            if settings.control != "auto" or keys:
                raise
            logs.log.warning("no commands are taken: %s", error)
    if control is None and settings.view.address:
        control = Control(None)  # the page asks for what it shows
    if not publish.address:
        return control, None
    publisher = Publisher(
        publish.address, spec.version, spec.mode, curve=publish.curve, access=publish.ipc_access, node=settings.node
    )
    return control, publisher


def tell_start(
    engine: Engine, control: Control | None, publisher: Publisher | None, console: Console, *, encrypts: bool
) -> None:
    """What runs, and where it can be reached: on the terminal and in the log."""
    console.print(printable(f"model   {engine.spec.version}: {engine.device}"), highlight=False, markup=False)
    if engine.why:
        console.print(f"backend {engine.backend} ({engine.why})", highlight=False, markup=False, soft_wrap=True)
        logs.log.info("backend %s: %s", engine.backend, engine.why)
    told = f"{publisher.address} (in another terminal: {_watching(publisher.address, encrypts)})" if publisher else "-"
    console.print(f"labels  {told}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"control {control.address if control and control.address else '-'}", highlight=False, soft_wrap=True)
    address = publisher.address if publisher else "-"
    logs.log.info("model %s: %s; labels at %s", engine.spec.version, engine.device, address)


def _watching(address: str, encrypts: bool) -> str:
    """The command that shows what is published."""
    where = "" if address == LABELS else f" {address.replace('//0.0.0.0:', '//127.0.0.1:')}"
    return f"streamer watch{where}{' --server-key RUN.key --key YOURS.key_secret' if encrypts else ''}"
