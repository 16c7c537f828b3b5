"""`streamer fleet`: many machines with one address for all labels."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.errors import did_you_mean
from streamer.commands.stopping import stop_on_signals
from streamer.errors import ConfigError
from streamer.labels.requests import ask
from streamer.labels.runtime import find_address, own_folder
from streamer.text import counted, printable

fleet_app = typer.Typer(
    help="Run many machines as one: a head places cameras on nodes, and publishes all labels at one address.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HEAD_EXAMPLES = """\b
Examples:
  streamer fleet head -c fleet.yaml                   # `streamer init fleet` wrote the file
  streamer fleet head -c fleet.yaml --at 192.0.2.1:6380 --labels tcp://0.0.0.0:5557 \\
      --curve head.key_secret --readers clients       # for other machines; `streamer keygen` made the keys
"""
JOIN_EXAMPLES = """\b
Examples:
  streamer fleet join 192.0.2.1:6380 --token-file token
  streamer fleet join 192.0.2.1:6380 --token-file token --rows 16 --label site=north --ports 6400-6420
"""
ADD_EXAMPLES = """\b
Examples:
  streamer fleet add rtsp://192.0.2.11/stream1 --name door
  streamer fleet add rtsp://192.0.2.12/stream1 --name yard --near site=north
"""

AddressOption = Annotated[
    str | None, typer.Option(help="The head's control address. [default: that of your only head]", show_default=False)
]
NearOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Labels of the nodes that come first, such as site=north; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LEAVE_S = 120.0


@fleet_app.command(short_help="Place cameras on nodes, and publish all labels", epilog=HEAD_EXAMPLES)
def head(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="fleet.yaml; `streamer init fleet` writes one.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to publish, such as tcp://127.0.0.1:5557.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypt the labels: a secret key, NAME.key_secret.")
    ] = None,
    readers: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --curve: the public keys of who may read.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where nodes join. [default: 127.0.0.1:6380]")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Token, keys and memory of the head. [default: fleet]")
    ] = None,
) -> None:
    """Be the head of a fleet, until Ctrl-C: nodes join it, cameras go to nodes, and labels come from one address.

    The nodes go on without it, and are found again when it comes back.
    """
    from streamer.fleet.cluster import missing
    from streamer.fleet.config import load_fleet

    stop = stop_on_signals()
    if (curve is None) != (readers is None):
        raise ConfigError("--curve and --readers belong together; give a secret key and the folder of readers' keys")
    keys = {"secret_key_file": curve, "authorized_keys_dir": readers} if curve else None
    settings, run = load_fleet(config, labels=labels, curve=keys, at=at, folder=folder)
    if why := missing():
        raise ConfigError(why)
    from streamer.fleet.reign import rule

    rule(settings, run, stop, lambda line: typer.echo(printable(line)))


@fleet_app.command(short_help="Make this machine a node of a fleet", epilog=JOIN_EXAMPLES)
def join(
    head: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The head.", show_default=False)],
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", help="A copy of the head's token; for its owner alone.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="What to call this node. [default: the machine's name]", show_default=False)
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="How many streams it takes.")] = 8,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What it is near to, such as site=north; repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="Settings of this node's run, over those of the head.", show_default=False),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The address of this machine that the head reaches.", show_default=False),
    ] = None,
    ports: Annotated[
        str | None,
        typer.Option(metavar="FIRST-LAST", help="The only ports to listen at, at least ten.", show_default=False),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The node's own, on a local disk. [default: in the runtime folder]"),
    ] = None,
) -> None:
    """Be a node, until Ctrl-C or `streamer fleet leave`: run the cameras that the head sends here.

    Its run has a process and a control socket of its own. It goes on while the head is away.
    """
    from streamer.fleet import join as joining
    from streamer.fleet.agent import Place
    from streamer.fleet.cluster import missing
    from streamer.fleet.config import near_labels
    from streamer.fleet.reign import check_token
    from streamer.settings import load_settings, read_file

    stop = stop_on_signals()
    name = name or joining.machine_name()
    joining.check_name(name)
    check_token(token_file)
    host = joining.local_host(head, at)
    if config:
        load_settings(config)  # or its errors
    if why := missing():
        raise ConfigError(why)
    folder = (folder or own_folder() / f"fleet-{name}").absolute()
    numbers = joining.port_range(ports)
    place = Place(
        name=name,
        host=host,
        port=numbers[0] if numbers else 0,
        rows=rows,
        cores=os.cpu_count() or 1,
        near=near_labels("--label", label),
        control=f"ipc://{folder}/run.control",
        own=joining.own_settings(read_file(config) if config else {}),
    )
    node = joining.Node(head, token_file, folder, place, numbers[1:])
    typer.echo(printable(f"node    {name}: {counted(rows, 'row')} at {host}"))
    typer.echo(printable(f"control {place.control}"))
    node.work(stop)


@fleet_app.command(short_help="Tell how nodes and streams are")
def status(
    why: Annotated[bool, typer.Option("--why", help="Also why each stream is where it is.")] = False,
    json_: JsonOption = False,
    address: AddressOption = None,
) -> None:
    """Tell which nodes there are, what they have, and where each stream is."""
    told = _ask(address, {"command": "status"})
    if json_:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    def table(*headers: str) -> Table:
        return Table(*headers, box=None, pad_edge=False, header_style="dim")

    console = Console(soft_wrap=True)
    nodes = table("node", "state", "rows", "decoding", "near", "")
    for one in told["nodes"]:
        near = " ".join(f"{key}={value}" for key, value in one["near"].items())
        nodes.add_row(
            *_cells(
                one["name"], one["state"], f"{one['taken']}/{one['rows']}", f"{one['decoding']:.0%}", near, one["why"]
            )
        )
    streams = table("stream", "node", "source", "why" if why else "")
    for one in told["streams"]:
        waits = one["node"] is None
        streams.add_row(
            *_cells(one["stream"], one["node"] or "-", "waits" if waits else one["source"]),
            *_cells(one["why"] if why or waits else one["detail"]),
        )
    console.print(printable(f"labels  {told['labels']}"), markup=False, highlight=False)
    console.print(nodes)
    console.print(streams)
    if told["moving"]:
        console.print(printable(f"on their way: {', '.join(told['moving'])}"), markup=False, highlight=False)


@fleet_app.command(short_help="Take one more source into the fleet", epilog=ADD_EXAMPLES)
def add(
    uri: Annotated[str, typer.Argument(metavar="SOURCE", help="As for `streamer run`.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="What to call the stream.", show_default=False)] = None,
    near: NearOption = None,
    address: AddressOption = None,
) -> None:
    """Take one more source into the fleet. It is remembered when the head starts anew."""
    from streamer.fleet.config import near_labels

    fields: dict[str, Any] = {"uri": uri, "near": near_labels("--near", near)}
    _print(_ask(address, {"command": "add", "source": fields | ({"name": name} if name else {})}))


@fleet_app.command(short_help="Take a source out of the fleet")
def remove(
    stream: Annotated[str, typer.Argument(help="Its name.", show_default=False)], address: AddressOption = None
) -> None:
    """Take a source out of the fleet. One of the head's file is back when the head starts anew: `comes_back` tells."""
    _print(_ask(address, {"command": "remove", "stream": stream}))


@fleet_app.command(short_help="Move a stream to another node")
def move(
    stream: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    node: Annotated[str, typer.Argument(help="The node.", show_default=False)],
    address: AddressOption = None,
) -> None:
    """Move a stream to another node, with what its model remembers."""
    _print(_ask(address, {"command": "move", "stream": stream, "node": node}))


@fleet_app.command(short_help="Spread the streams evenly")
def balance(address: AddressOption = None) -> None:
    """Move streams until all nodes are evenly loaded and streams are where they would be near; print which move."""
    _print(_ask(address, {"command": "balance"}))


@fleet_app.command(short_help="Empty a node")
def drain(
    node: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    back: Annotated[bool, typer.Option("--back", help="Let it take streams again.")] = False,
    address: AddressOption = None,
) -> None:
    """Let a node take no more streams, and move its own to others, such as before its machine is switched off."""
    _print(_ask(address, {"command": "drain", "node": node, "back": back}))


@fleet_app.command(short_help="Take this machine out of its fleet")
def leave(
    name: Annotated[
        str | None, typer.Option(help="The node. [default: the only one of yours here]", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="As given to `fleet join`.", show_default=False)
    ] = None,
) -> None:
    """Take this machine out of its fleet: its streams move to other nodes, and then its `fleet join` ends."""
    from streamer.fleet.folder import is_taken, write

    where = folder or _only_node(name)
    if not is_taken(where):
        raise ConfigError(f"{where}: no `streamer fleet join` runs there")
    write(where / "leaving", b"")
    ends = time.monotonic() + LEAVE_S
    while is_taken(where):
        if time.monotonic() > ends:
            raise ConfigError(
                f"its streams are not gone after {LEAVE_S:g} s, and it leaves as soon as they are; `streamer fleet "
                "status` on the head's machine tells why"
            )
        time.sleep(0.2)
    typer.echo("left")


def _only_node(name: str | None) -> Path:
    """The folder of a node that runs here."""
    from streamer.fleet.folder import is_taken

    paths = [path for path in sorted(own_folder().glob("fleet-*")) if path.is_dir() and is_taken(path)]
    found = {path.name.removeprefix("fleet-"): path for path in paths}
    if name is not None and name not in found:
        hint = did_you_mean(name, found, "name its --folder if it was given one")
        raise ConfigError(f"no node {name[:64]!r} of yours runs here; {hint}")
    if not found:
        raise ConfigError("no node of yours runs here; name its --folder if it was given one")
    if name is None and len(found) > 1:
        raise ConfigError(f"{len(found)} nodes of yours run here; choose one with --name: {', '.join(found)}")
    return found[name or next(iter(found))]


def _ask(address: str | None, request: dict[str, Any]) -> Any:
    from streamer.fleet.desk import SUFFIX

    return ask(address or find_address(SUFFIX, "head of a fleet"), request)


def _print(told: Any) -> None:
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False))


def _cells(*texts: str) -> list[str]:
    from rich.markup import escape

    return [escape(printable(text)) for text in texts]
