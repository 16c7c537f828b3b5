"""The command `streamer`: it parses, wires, prints, and turns errors into exit codes.

0 done, 2 configuration, 3 source, 4 engine.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engines import Engine, EngineError, load_engine
from streamer.commands import build as build_command
from streamer.commands import view as page_command
from streamer.commands.ctl import KeyOption, ServerKeyOption, ctl, keygen, make_curve
from streamer.config import Config
from streamer.errors import ConfigError, SourceError, StreamerError
from streamer.health import logs
from streamer.labels.messages import KINDS, Kind, Message, encode
from streamer.settings import Settings, load_settings
from streamer.sources import Source, open_source

app = typer.Typer(
    help="Action labels from live video: a camera, a stream or a file goes in, labels come out over ZeroMQ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.command()(ctl)
app.command()(keygen)
app.command()(build_command.build)
app.command()(build_command.verify)

SourceArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="0 or /dev/video0 (webcam), rtsp://HOST/PATH, http://HOST/PATH (MJPEG), a video file, or pattern://swipe.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("-c", "--config", help="A YAML file; see configs/ for some to copy.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set any configuration value, such as events.enter=0.7; repeatable."
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="A model's name or file; `streamer models` lists the names.")
]
BackendOption = Annotated[
    str | None, typer.Option(metavar="BACKEND", help="auto, openvino (CPU), tensorrt (GPU), eager (torch) or scripted.")
]


def make_settings(file: Path | None, sets: Sequence[str] | None, **options: Any) -> Settings:
    """The layers of configuration; options that are None were not given."""
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    return load_settings(file, os.environ, sets or (), given)


def make_engine(config: Config) -> Engine:
    """The model on its backend."""
    precision, rows = config.engine.precision, max(1, len(config.sources))
    return load_engine(config.model, config.backend, threads=config.engine.threads, precision=precision, rows=rows)


def make_sources(config: Config) -> list[Source]:
    """The sources, each with a name of its own."""
    if not config.sources:
        raise ConfigError("no source is given; name one, such as `streamer run 0` for a webcam or pattern://swipe")
    sources: list[Source] = []
    for source in config.sources:
        sources.append(open_source(source, {other.name for other in sources}, config.capture))
    return sources


@app.command()
def run(
    source: SourceArguments = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    publish: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to publish labels, such as tcp://127.0.0.1:5557.")
    ] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Publish nothing.")] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Show nothing but warnings and errors.")] = False,
    duration: Annotated[float | None, typer.Option(metavar="S", help="Stop after this many seconds.")] = None,
    view: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help=f"Serve a page with pictures and labels; the address may be left out: {page_command.DEFAULT_ADDRESS}.",
        ),
    ] = None,
    view_token: page_command.TokenOption = None,
    window: Annotated[bool, typer.Option("--window", help="Show the stream in a window on this desk.")] = False,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve /metrics and /healthz, such as at 127.0.0.1:9464.")
    ] = None,
    log: Annotated[str, typer.Option(metavar="STYLE", help="text, or json: one object a line, for machines.")] = "text",
) -> None:
    """Recognise actions in live video and publish labels, until Ctrl-C, the end of all files or --duration."""
    from streamer.health.systemd import ServiceManager
    from streamer.labels.control import Control
    from streamer.labels.publisher import Publisher
    from streamer.pipeline.pipeline import Pipeline
    from streamer.view.terminal import TerminalView

    logs.set_up(log)
    stop = stop_on_signals()
    if publish and no_publish:
        raise ConfigError("--publish and --no-publish exclude each other; give one of them")
    options = {"sources": source or None, "model": model, "backend": backend, "publish__address": publish}
    options |= {"view__address": view, "view__token": view_token, "metrics": metrics}
    settings = make_settings(config, set_, duration_s=duration, **options).config
    sources = make_sources(settings)
    console = Console(quiet=headless)
    address = None if no_publish else settings.publish.address
    with ExitStack() as stack:
        monitor = None
        if settings.metrics:
            from streamer.health.monitor import Monitor

            monitor = stack.enter_context(Monitor(settings.metrics, sources))
            console.print(f"metrics http://{monitor.address}/metrics and /healthz", highlight=False, soft_wrap=True)
        page = page_command.open_page(settings.view, console, stack)
        desk = page_command.open_window(sources) if window else None
        engine = make_engine(settings)
        stack.callback(engine.close)
        spec, curve = engine.spec, settings.publish.curve
        control = stack.enter_context(Control(settings.control, curve)) if settings.control else None
        publisher = Publisher(address, spec.version, spec.mode, curve=curve) if address else None
        console.print(f"model   {engine.spec.version}: {engine.device}", highlight=False)
        if engine.why:
            console.print(f"backend {engine.backend}: {engine.why}", highlight=False, soft_wrap=True)
            logs.log.info("backend %s: %s", engine.backend, engine.why)
        told = f"{publisher.address} (to see them elsewhere: streamer watch {publisher.address})" if publisher else "-"
        console.print(f"labels  {told}", highlight=False, soft_wrap=True)
        console.print(f"control {control.address if control else '-'}", highlight=False, soft_wrap=True)
        views = [] if headless else [stack.enter_context(TerminalView(console, sources))]
        probe = monitor.metrics if monitor else None
        listeners = [*views, *(listener for listener in (page, desk) if listener)]
        pipeline = Pipeline(settings, engine, sources, publisher, listeners, control, probe, ServiceManager(os.environ))
        if monitor:
            monitor.watch(pipeline, engine, publisher)
        logs.log.info("model %s: %s; labels at %s", engine.spec.version, engine.device, told.partition(" ")[0])
        if page:
            page.start(pipeline.picture)
        summary = desk.run(pipeline.run, stop, pipeline.picture) if desk else pipeline.run(stop)
        logs.log.info("stopped: %s", "; ".join(" ".join(line.split()) for line in summary.lines()))
    for line in summary.lines():
        console.print(line, highlight=False)
    if not summary.captured and not pipeline.draining and not stop.is_set():
        raise SourceError(f"no source gave a frame: {'; '.join(pipeline.details()) or 'all were empty'}")


@app.command()
def watch(
    address: Annotated[str, typer.Argument(help="Where labels are published, such as tcp://127.0.0.1:5557.")],
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help=f"Only this kind of {', '.join(KINDS)}; repeatable.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Every message, one JSON object a line.")] = False,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Print the labels that a running `streamer run` publishes, here or on another machine."""
    from streamer.commands.watch import watch as print_messages
    from streamer.labels.subscriber import Subscriber

    curve = make_curve(server_key, key)
    with (
        suppress(KeyboardInterrupt),
        Subscriber(address, streams=stream, kinds=check_kinds(kind), curve=curve) as subscriber,
    ):
        print_messages(subscriber, sys.stdout, as_json=json)


app.command()(page_command.view)


@app.command()
def replay(
    file: Annotated[list[str], typer.Argument(metavar="FILE...", help="Video files (or pattern:// with a duration).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the messages go, one JSON object a line; - is the terminal.")
    ] = None,
    render: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the video with its labels drawn in, such as out.mp4.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Which of {', '.join(KINDS)}; repeatable. [default: event, gap]")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
) -> None:
    """Run files through the model, every frame, as fast as it goes; write their events, or draw them into a video.

    The same file gives the same bytes every time.
    """
    from streamer.pipeline.replay import replay as replay_source
    from streamer.view.render import open_render

    if out is None and render is None:
        raise ConfigError("replay needs --out FILE for the messages or --render FILE for a video")
    kinds = check_kinds(kind) or ("event", "gap")
    entries = [{"uri": uri, "pace": "fast"} for uri in file]
    settings = make_settings(config, set_, sources=entries, model=model, backend=backend).config
    sources = make_sources(settings)
    for source in sources:
        if source.live:
            raise SourceError(f"{source.uri}: is live and never ends; replay takes files, run takes cameras")
    engine = make_engine(settings)
    with ExitStack() as stack:
        stack.callback(engine.close)
        try:
            target = sys.stdout.buffer if str(out) == "-" else stack.enter_context((out or Path(os.devnull)).open("wb"))
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
        video = stack.enter_context(open_render(render, sources)) if render else None

        def write(message: Message) -> None:
            if message.kind in kinds:
                target.write(encode(message) + b"\n")
            if video:
                video(message)

        for source in sources:
            stream = replay_source(source, engine, settings, write, *([video.frame] if video else []))
            damage = f", {source.corrupt} damaged" if source.corrupt else ""
            typer.echo(f"{source.uri}: {stream.inferred} frames inferred, {stream.started} events{damage}", err=True)
        target.flush()


@app.command()
def check() -> None:
    """Tell what works on this machine: cameras, backends with reasons, model files."""
    from streamer.commands.check import report

    healthy = True
    for line, good in report():
        typer.echo(line)
        healthy &= good
    if not healthy:
        raise typer.Exit(EngineError.exit_code)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    labels: Annotated[bool, typer.Option("--labels", help="List each model's labels, too.")] = False,
) -> None:
    """List the models that can be named with --model, or import one."""
    from streamer.commands.check import model_lines

    if context.invoked_subcommand is None:
        for line in model_lines(with_labels=labels):
            typer.echo(line)


@models_app.command(name="import")
def import_model(
    file: Annotated[Path, typer.Argument(help="A published checkpoint; docs/checkpoints.md lists them.")],
    out: Annotated[Path, typer.Option(metavar="NAME", help="What to call the model; may begin with a folder.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One label a line, in the order of the classes. Online TSM needs none."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of a clip, where the file does not tell. [default: 8]")
    ] = None,
    causal: Annotated[
        bool, typer.Option("--causal", help="Run as a stream what was trained to see later frames. Costs accuracy.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            min=0.1,
            help="Frames a second for the network. [default: 12 for online TSM, else a clip's frames in 4 s]",
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Height and width of its frames, pixels.")] = 224,
    hop: Annotated[int, typer.Option(min=1, help="Window mode: frames from one evaluation to the next.")] = 1,
) -> None:
    """Make a model of a published checkpoint: NAME.onnx, NAME.pt and NAME.json, for --model NAME.onnx."""
    from engines.build.importing import import_model as write_model
    from streamer.commands.check import describe

    spec = write_model(file, out, labels, frames=frames, causal=causal, rate_hz=rate, size=size, hop=hop)
    typer.echo(f"{spec.name}: {describe(spec)}")
    typer.echo(f"to run it: streamer run 0 --model {out}.onnx")


@app.command(name="config")
def show_config(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the effective configuration, and where each value came from."""
    for line in make_settings(config, set_).lines():
        typer.echo(line)


def check_kinds(kinds: Sequence[str] | None) -> tuple[Kind, ...] | None:
    """Kinds of messages by name; None if none were given."""
    for kind in kinds or ():
        if kind not in KINDS:
            raise ConfigError(f"--kind {kind}: there is no such kind; known are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds) if kinds else None


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set; the second time they end the program at once."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop


def main() -> None:
    """Run the command line; expected errors are one line on stderr and an exit code."""
    if sys.stderr:
        faulthandler.enable()  # a library that crashes takes the process with it, but not without a word
    logs.set_up("text")
    try:
        app(args=page_command.with_view_address(sys.argv[1:]))
    except (StreamerError, EngineError) as error:
        logs.log.error("%s", error)
        sys.exit(error.exit_code)
    except Exception:
        logs.log.critical("an error that was not expected; please report it", exc_info=True)
        sys.exit(1)
