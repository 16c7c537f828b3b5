"""`streamer keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="What to call the files; may begin with a folder.")],
) -> None:
    """Make a pair of keys, NAME.key to give away and NAME.key_secret to keep, for publish.curve or for --key."""
    from streamer.labels.curve import write_keys

    public, secret = write_keys(name)
    typer.echo(f"{public}: the public key, for the other side")
    typer.echo(f"{secret}: the secret key; keep it here")
