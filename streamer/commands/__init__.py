"""The command `streamer`: it parses, wires, prints, and turns errors into exit codes. One file a command.

run.py, view.py, watch.py, replay.py   labels, live and from recordings; bridge.py: on to other systems
discover.py which cameras there are; check.py: what works on this machine, which trials.py tries for real
record.py, teach.py   clips of one's own, and a model that learns from them; tune.py: thresholds from recordings
models.py, build.py   models, and engines for this machine (build, verify)
init.py, config.py (keys.py describes them), ctl.py, keygen.py   settings, requests to a run, keys
options.py  what several commands share; console.py: arguments and outputs of any kind; stopping.py: signals

Exit codes: 0 done, 2 configuration, 3 source, 4 engine.
"""

from __future__ import annotations

import faulthandler
import sys
from importlib import metadata
from typing import Annotated

import typer

from engines import EngineError
from streamer.commands import (
    bridge,
    build,
    check,
    config,
    console,
    ctl,
    discover,
    init,
    keygen,
    models,
    record,
    replay,
    run,
    teach,
    tune,
    view,
    watch,
)
from streamer.errors import ConfigError, StreamerError
from streamer.health import logs

__all__ = ["app", "main"]

_EXAMPLES = """\b
Examples:
  streamer run 0                       # a webcam, until Ctrl-C
  streamer run 0 --view                # and a page at http://127.0.0.1:8080/
  streamer run clip.mp4 --loop         # a file, again and again
  streamer watch                       # in another terminal: the events
  streamer replay clip.mp4             # a recording, as fast as it goes
  streamer init webcam                 # a configuration to change
"""

app = typer.Typer(
    help="Action labels from live video: a camera, a stream or a file goes in, labels come out over ZeroMQ.",
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(short_help="Recognise actions in live video and publish them", epilog=run.EXAMPLES)(run.run)
app.command(short_help="Print the events that a run publishes", epilog=watch.EXAMPLES)(watch.watch)
app.command(short_help="Show the labels of a run as a page in the browser")(view.view)
app.add_typer(
    bridge.bridge_app, name="bridge", short_help="Carry labels to MQTT, Home Assistant, a web address, a program"
)
app.command(short_help="Recognise actions in recordings, as fast as it goes", epilog=replay.EXAMPLES)(replay.replay)
app.command(short_help="Find cameras", epilog=discover.EXAMPLES)(discover.discover)
app.command(short_help="Write a configuration, or a webhook, to begin with")(init.init)
app.command(short_help="Record labelled clips of your own")(record.record)
app.command(short_help="Teach a model actions of your own", epilog=teach.EXAMPLES)(teach.teach)
app.command(short_help="Find the thresholds that suit your recordings")(tune.tune)
app.command(short_help="Ask a run how it is, or change it while it goes on")(ctl.ctl)
app.command(short_help="Try what works on this machine")(check.check)
app.add_typer(models.models_app, name="models", short_help="List the models, or import a published one")
app.command(name="config", short_help="Print the configuration and where it came from")(config.show_config)
app.command(short_help="Make keys, for encryption")(keygen.keygen)
app.command(short_help="Build a model's engine for this machine")(build.build)
app.command(short_help="Compare a model's engine with the trained network")(build.verify)


def show_version(wanted: bool) -> None:
    """Print the version and end, if it is wanted."""
    if wanted:
        typer.echo(f"action-streamer {metadata.version('action-streamer')}")
        raise typer.Exit


@app.callback()
def streamer(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What holds for every command."""


def main() -> None:
    """Run the command line; expected errors are one line on stderr and an exit code."""
    console.prepare()
    if sys.stderr:
        faulthandler.enable()  # a library that crashes takes the process with it, but not without a word
    logs.set_up("text")
    sys.exit(_run(view.with_view_address(sys.argv[1:])))


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except (StreamerError, EngineError) as error:
        logs.log.error("%s", error)
        return error.exit_code
    except typer.Abort:
        return 1
    except Exception as error:
        if hasattr(error, "show"):
            return console.usage(error, arguments)
        if isinstance(error, OSError) and (told := console.no_room(error)):
            logs.log.error("%s", told)
            console.let_go()
            return ConfigError.exit_code
        logs.log.critical("an error that was not expected; please report it", exc_info=True)
        return 1
    return code or 0
