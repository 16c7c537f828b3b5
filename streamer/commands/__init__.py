"""The command `streamer`: it parses, wires, prints, and turns errors into exit codes. One file a command.

run.py, view.py, watch.py, replay.py   labels, live and from recordings; bridge.py: on to other systems
discover.py which cameras there are; check.py: what works on this machine, which trials.py tries for real
record.py, teach.py   clips of one's own, and a model that learns from them; tune.py: thresholds from recordings
models.py, build.py   models, and engines for this machine (build, verify)
fleet.py    many machines with one address for all labels
init.py, config.py (keys.py describes them), ctl.py, keygen.py   settings, requests to a run, keys
options.py  what several commands share; console.py: arguments and outputs of any kind; stopping.py: signals
lazy.py     imports a command when it is asked for

Exit codes: 0 done, 2 configuration, 3 source, 4 engine.
"""

from __future__ import annotations

import faulthandler
import sys
from typing import Annotated

import typer

from streamer.commands import console
from streamer.commands.lazy import STYLE, Place, group
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

_COMMANDS = {  # in the order of use
    "run": Place("run", "run", "Recognise actions in live video and publish them"),
    "watch": Place("watch", "watch", "Print the events that a run publishes"),
    "view": Place("view", "view", "Show the labels of a run as a page in the browser"),
    "bridge": Place("bridge", "bridge_app", "Carry labels to MQTT, a web address or a program"),
    "replay": Place("replay", "replay", "Recognise actions in recordings, as fast as it goes"),
    "models": Place("models", "models_app", "List the models, or import a published one"),
    "discover": Place("discover", "discover", "Find cameras"),
    "init": Place("init", "init", "Write a configuration, or a webhook, to begin with"),
    "record": Place("record", "record", "Record labelled clips of your own"),
    "teach": Place("teach", "teach", "Teach a model actions of your own"),
    "tune": Place("tune", "tune", "Find the thresholds that suit your recordings"),
    "ctl": Place("ctl", "ctl", "Ask a run how it is, or change it while it goes on"),
    "fleet": Place("fleet", "fleet_app", "Run many machines as one"),
    "check": Place("check", "check", "Try what works on this machine"),
    "config": Place("config", "show_config", "Print the configuration and where it came from"),
    "keygen": Place("keygen", "keygen", "Make keys, for encryption"),
    "build": Place("build", "build", "Build a model's engine for this machine"),
    "verify": Place("build", "verify", "Compare a model's engine with the trained network"),
}

app = typer.Typer(
    cls=group(_COMMANDS),
    help="Action labels from live video: a camera, a stream or a file goes in, labels come out over ZeroMQ.",
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    **STYLE,
)


def show_version(wanted: bool) -> None:
    """Print the version and end, if it is wanted."""
    if wanted:
        from importlib import metadata

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
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    if "--view" in arguments:
        from streamer.commands.view import with_view_address

        arguments = with_view_address(arguments)
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        return 1
    except Exception as error:
        return _told(error, arguments)
    return code or 0


def _told(error: Exception, arguments: list[str]) -> int:
    """Tell what ended a command, and give its exit code."""
    if hasattr(error, "show"):
        return console.usage(error, arguments)
    from engines import EngineError  # with all that its package needs, so not for help

    if isinstance(error, StreamerError | EngineError):
        logs.log.error("%s", error)
        return error.exit_code
    if isinstance(error, OSError) and (told := console.no_room(error)):
        logs.log.error("%s", told)
        console.let_go()
        return ConfigError.exit_code
    logs.log.critical("an error that was not expected; please report it", exc_info=error)
    return 1
