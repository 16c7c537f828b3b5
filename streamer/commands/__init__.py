"""The command `streamer`: it parses, wires, prints, and turns errors into exit codes. One file a command.

run.py, view.py, watch.py, replay.py   labels, live and from recordings
check.py    what works on this machine, which trials.py tries for real
record.py   clips to teach a model with
models.py, build.py   models, and engines for this machine (build, verify)
config.py, ctl.py, keygen.py   settings, requests to a run, keys
options.py  what several commands share; console.py: arguments and outputs of any kind

Exit codes: 0 done, 2 configuration, 3 source, 4 engine.
"""

from __future__ import annotations

import faulthandler
import sys

import typer

from engines import EngineError
from streamer.commands import build, check, config, console, ctl, keygen, models, record, replay, run, view, watch
from streamer.errors import ConfigError, StreamerError
from streamer.health import logs

__all__ = ["app", "main"]

app = typer.Typer(
    help="Action labels from live video: a camera, a stream or a file goes in, labels come out over ZeroMQ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(watch.watch)
app.command()(view.view)
app.command()(replay.replay)
app.command()(record.record)
app.command()(check.check)
app.add_typer(models.models_app, name="models")
app.command(name="config")(config.show_config)
app.command()(ctl.ctl)
app.command()(keygen.keygen)
app.command()(build.build)
app.command()(build.verify)


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
