"""The page on the command line: `streamer run --view` and `streamer view`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr
from rich.console import Console

from streamer.commands.options import (
    LABELS,
    AddressArgument,
    KeyOption,
    ServerKeyOption,
    TokenOption,
    make_curve,
    make_settings,
)
from streamer.config import SourceConfig, ViewConfig
from streamer.errors import ConfigError, SourceError
from streamer.sources import Source, open_source
from streamer.view.auth import Place, claim

if TYPE_CHECKING:
    from streamer.view.process import PageProcess
    from streamer.view.window import Window

DEFAULT_ADDRESS = "127.0.0.1:8080"


def open_page(config: ViewConfig, console: Console, stack: ExitStack) -> PageProcess | None:
    """The page, if the configuration asks for one, bound and told; serve it with `start`. `stack` closes it."""
    if config.address is None:
        if config.token is not None:
            raise ConfigError("view.token is given, but no page to protect; add --view")
        return None
    from streamer.view.process import PageProcess

    place = claim_page(config.address, config.token, console)
    return stack.enter_context(PageProcess(place))


def claim_page(address: str, token: SecretStr | None, console: Console) -> Place:
    """Take the address of a page and tell it, once with a token that was made for it. Raises ConfigError."""
    place = claim(address, token.get_secret_value() if token else None)
    if place.new_token and console.quiet:
        place.socket.close()
        raise ConfigError(
            f"the view at {address} can be reached by other machines and needs a token: "
            "set --view-token or STREAMER_VIEW__TOKEN (with --headless a generated one would not be told)"
        )
    secret = f"#token={place.new_token} (the token is told only here)" if place.new_token else ""
    asks = " (it asks for the token)" if token else ""
    console.print(f"view    {place.url}{secret}{asks}", highlight=False, markup=False, soft_wrap=True)
    return place


def view(
    address: AddressArgument = LABELS,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve the page.")] = DEFAULT_ADDRESS,
    view_token: TokenOption = None,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Serve a page that shows the labels of a running `streamer run`, here or on another machine, without pictures."""
    from streamer.labels.subscriber import Subscriber

    token = make_settings(None, None, view__token=view_token).config.view.token
    curve = make_curve(server_key, key)
    with suppress(KeyboardInterrupt), Subscriber(address, curve=curve) as subscriber:
        place = claim_page(listen, token, Console())
        from streamer.view.server import PageServer  # with what `claim` has found to be installed

        with PageServer(place) as page:
            for message in subscriber:
                page(message)


def open_window(sources: Sequence[Source]) -> Window:
    """The window for the only source. Raises ConfigError if there are more, or where no window can be shown."""
    from streamer.view.window import Window

    streams = {name: corners for source in sources for name, corners in source.streams.items()}
    if len(streams) > 1:
        raise ConfigError(f"--window shows one stream, not {len(streams)}; use --view, a page in the browser")
    return Window(*next(iter(streams.items())))


def with_view_address(arguments: Sequence[str]) -> list[str]:
    """The command line with an address after a `--view` that has none: typer knows no option whose value may be absent.

    What follows it is its address, unless it is another option or could be a source. Behind a `--` stand no options.
    """
    completed: list[str] = []
    if "--" in arguments:
        end = arguments.index("--")
        return [*with_view_address(arguments[:end]), *arguments[end:]]
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=False):
        completed.append(argument)
        if argument == "--view" and (following.startswith("-") or _is_source(following)):
            completed.append(DEFAULT_ADDRESS)
    return completed


def _is_source(text: str) -> bool:
    try:
        open_source(SourceConfig(uri=text))
    except (SourceError, ValueError):
        return False
    return True
