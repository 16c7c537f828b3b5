"""`streamer bridge mqtt`, `webhook` and `exec`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import install
from streamer.commands import console
from streamer.commands.options import LABELS, KeyOption, ServerKeyOption, make_curve
from streamer.errors import ConfigError
from streamer.labels.messages import Kind

if TYPE_CHECKING:
    from streamer.bridges.feed import Bridge, Choice
    from streamer.labels.curve import Curve

TYPES = ("start", "update", "end")
MQTT_EXAMPLES = """\b
Examples:
  streamer bridge mqtt                                                   # a broker on this machine
  streamer bridge mqtt --broker mqtts://cameras@broker.example --password-file secret
  streamer bridge mqtt --from tcp://192.0.2.5:5557 --prefix cameras/hall # another machine's labels
"""
WEBHOOK_EXAMPLES = """\b
Examples:
  streamer bridge webhook --url http://127.0.0.1:1880/action --type start
  streamer bridge webhook --url-file address --template '{"text": "$label on $stream"}'
"""
EXEC_EXAMPLES = """\b
Examples:
  streamer bridge exec --type start --label wave -- aplay bell.wav
  streamer bridge exec -- python3 handle.py       # which reads the event, as JSON, from standard input
"""

bridge_app = typer.Typer(
    help="Carry labels on to other systems, in a process of its own that survives both ends.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FromOption = Annotated[str, typer.Option("--from", metavar="ADDRESS", help="Where labels are published.")]
StreamOption = Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")]
LabelOption = Annotated[list[str] | None, typer.Option(help="Only events of this label; repeatable.")]
TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only this type of start, update, end; repeatable. [default: start and end]"),
]
QueueOption = Annotated[
    int, typer.Option(min=1, max=100_000, help="Events that may wait; then the oldest is dropped, and counted.")
]
CaOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TLS: trust the certificates in it, and no others. [default: the system's]"),
]
BrokerOption = Annotated[str, typer.Option(metavar="ADDRESS", help="mqtt://[USER@]HOST[:PORT], or mqtts:// with TLS.")]
PasswordFileOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The user's password. [default: ACTION_STREAMER_MQTT_PASSWORD]")
]
CertificateOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="TLS: this end's certificate, where the broker asks for one.")
]
CertificateKeyOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Its key. [default: in the same file]")]
PrefixOption = Annotated[str, typer.Option(help="Begins the topics. Each bridge at a broker needs its own.")]
DiscoveryOption = Annotated[
    str, typer.Option(metavar="PREFIX", help="Where Home Assistant looks for devices; '' tells it nothing.")
]
ControlOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The run's control address, which tells labels before they happen. [default: that of your only run]",
    ),
]
KeepOption = Annotated[
    float, typer.Option(min=0, help="How long an event may wait for the broker: late, it is taken for new.")
]
UrlOption = Annotated[str | None, typer.Option(metavar="URL", help="Where events are posted.", show_default=False)]
UrlFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Holds the address, where it is a secret, or has a password. [default: ACTION_STREAMER_WEBHOOK_URL]",
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT|@FILE",
        help="The body, with $label, $stream, ... in it; as JSON if it begins with { or [. [default: the message]",
        show_default=False,
    ),
]
ClipsOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the clips' folder is served: adds clip_url to events that have one."),
]
SecretFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Signs the bodies: X-Hub-Signature-256. [default: ACTION_STREAMER_WEBHOOK_SECRET]"
    ),
]
TriesOption = Annotated[int, typer.Option(min=1, max=100, help="How often an event is sent at most.")]


@bridge_app.command(short_help="To an MQTT broker, and to Home Assistant", epilog=MQTT_EXAMPLES)
def mqtt(
    source: FromOption = LABELS,
    broker: BrokerOption = "mqtt://127.0.0.1:1883",
    password_file: PasswordFileOption = None,
    ca_file: CaOption = None,
    client_cert: CertificateOption = None,
    client_key: CertificateKeyOption = None,
    prefix: PrefixOption = "action-streamer",
    discovery: DiscoveryOption = "homeassistant",
    stream: StreamOption = None,
    label: LabelOption = None,
    control: ControlOption = None,
    queue: QueueOption = 10_000,
    keep_s: KeepOption = 60.0,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Carry events, labels in force and the state of the cameras to an MQTT broker.

    Home Assistant finds a device for each stream there, with a binary sensor for each label and an event entity. Needs
    the extra `mqtt`.
    """
    try:
        from streamer.bridges.mqtt import Mqtt
    except ModuleNotFoundError as error:
        raise ConfigError(f"the bridge needs {error.name}: {install('mqtt')}") from error
    from streamer.bridges.broker import parse_broker
    from streamer.bridges.knowing import Knowing
    from streamer.bridges.secret import read_secret

    password = read_secret(password_file, "ACTION_STREAMER_MQTT_PASSWORD", "--password-file")
    there = parse_broker(broker, password, ca_file, client_cert, client_key)
    for option, topic in (("--prefix", prefix), ("--discovery", discovery)):
        _check_topic(option, topic, may_be_empty=option == "--discovery")
    curve = make_curve(server_key, key)
    _carry(
        source,
        stream,
        ("event", "state", "status"),
        curve,
        lambda: Mqtt(there, prefix, discovery or None, label or (), Knowing(control), queue, keep_s),
        f"broker  {there.shown}",
    )


@bridge_app.command(short_help="To a web address", epilog=WEBHOOK_EXAMPLES)
def webhook(
    source: FromOption = LABELS,
    url: UrlOption = None,
    url_file: UrlFileOption = None,
    stream: StreamOption = None,
    label: LabelOption = None,
    kind: TypeOption = None,
    template: TemplateOption = None,
    clips: ClipsOption = None,
    secret_file: SecretFileOption = None,
    tries: TriesOption = 5,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=60, help="Longest wait for an answer.")] = 5.0,
    ca_file: CaOption = None,
    queue: QueueOption = 100,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Post each event to a web address, as JSON.

    While the receiver is away an event is sent again, after 1, 2, 4, ... seconds. Redirections are not followed.
    """
    from streamer.bridges.secret import read_secret
    from streamer.bridges.template import Body
    from streamer.bridges.webhook import Webhook, parse_target

    address = url or read_secret(url_file, "ACTION_STREAMER_WEBHOOK_URL", "--url-file")
    if not address or (url and url_file):
        raise ConfigError("bridge webhook: give one of --url, --url-file and ACTION_STREAMER_WEBHOOK_URL")
    target = parse_target(address, ca_file)
    if url and target.login:
        raise ConfigError("--url: holds a password, which other users of this machine can read there; use --url-file")
    secret = read_secret(secret_file, "ACTION_STREAMER_WEBHOOK_SECRET", "--secret-file")
    body = Body(_text("--template", template), clips)
    choice = _choice(label, kind)
    _carry(
        source,
        stream,
        ("event",),
        make_curve(server_key, key),
        lambda: Webhook(target, body, choice, secret.encode() if secret else None, tries, timeout_s, queue),
        f"webhook {target.shown}",
    )


@bridge_app.command(
    name="exec",
    short_help="To a program of yours",
    epilog=EXEC_EXAMPLES,
    context_settings={"allow_interspersed_args": False},
)
def execute(
    command: Annotated[
        list[str], typer.Argument(metavar="-- CMD [ARG]...", help="The program, and its arguments.", show_default=False)
    ],
    source: FromOption = LABELS,
    stream: StreamOption = None,
    label: LabelOption = None,
    kind: TypeOption = None,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="How many may run at a time. With 1, events keep their order.")
    ] = 1,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=86_400, help="Longest run of one; then it is ended.")] = 30.0,
    queue: QueueOption = 100,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Start a program for each event, without a shell.

    It reads the event as JSON from standard input, and finds ACTION_STREAM, ACTION_TYPE, ACTION_LABEL, ACTION_ID,
    ACTION_PEAK and ACTION_CLIP in its environment.
    """
    from streamer.bridges.exec import Exec

    choice = _choice(label, kind)
    _carry(
        source,
        stream,
        ("event",),
        make_curve(server_key, key),
        lambda: Exec(command, choice, at_once, timeout_s, queue),
        f"exec    {command[0]}",
    )


def _carry(
    source: str,
    streams: list[str] | None,
    kinds: tuple[Kind, ...],
    curve: Curve | None,
    make: Callable[[], Bridge],
    other_end: str,
) -> None:
    """Run a bridge until a signal ends it."""
    from streamer.bridges.feed import carry
    from streamer.commands.stopping import stop_on_signals
    from streamer.labels.subscriber import Subscriber

    with Subscriber(source, streams, kinds, curve=curve, queue=10_000) as subscriber:
        bridge, stop = make(), stop_on_signals()
        _say(f"labels  {source}\n{other_end}")
        carry(subscriber, source, bridge, stop, _say)


def _say(text: str) -> None:
    """Print it; a bridge goes on when nobody reads that any more."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        console.let_go()


def _choice(labels: list[str] | None, types: list[str] | None) -> Choice:
    from streamer.bridges.feed import Choice

    for one in types or ():
        if one not in TYPES:
            raise ConfigError(f"--type {one}: there is no such type; there are {', '.join(TYPES)}")
    return Choice(labels or (), types or ("start", "end"))


def _check_topic(option: str, topic: str, *, may_be_empty: bool) -> None:
    if not topic and may_be_empty:
        return
    parts = topic.split("/")
    if len(topic) > 200 or not all(parts) or any(sign in topic for sign in "+#$") or not topic.isprintable():
        raise ConfigError(f"{option} {topic!r}: cannot begin topics; use words with / between them, without +, # and $")


def _text(option: str, given: str | None) -> str | None:
    """A text, or that of the file behind @."""
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(f"{option} {given}: cannot be read: {why}") from error
