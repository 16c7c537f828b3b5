"""`streamer models` and `streamer models import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.check import describe, model_lines
from streamer.commands.options import check_output, writing

models_app = typer.Typer(rich_markup_mode=None)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    labels: Annotated[bool, typer.Option("--labels", help="List each model's labels, too.")] = False,
) -> None:
    """List the models that can be named with --model, or import one."""
    if context.invoked_subcommand is None:
        for line in model_lines(with_labels=labels):
            typer.echo(line)


@models_app.command(name="import")
def import_model(
    file: Annotated[Path, typer.Argument(help="A published checkpoint of TSM, TAM, TCM or mmaction2.")],
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

    outputs = [Path(f"{out}{suffix}") for suffix in (".onnx", ".pt", ".json")]
    for output in outputs:
        check_output("--out", output, [file, *([labels] if labels else [])])
    with writing("--out", out):
        spec = write_model(file, out, labels, frames=frames, causal=causal, rate_hz=rate, size=size, hop=hop)
    typer.echo(f"{spec.name}: {describe(spec)}")
    typer.echo(f"to run it: streamer run 0 --model {out}.onnx")
