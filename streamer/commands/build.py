"""The commands `streamer build` and `streamer verify`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from engines import EngineError
from streamer.errors import ConfigError

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's name or file; `streamer models` lists the names.")
]
RowsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Streams that a step takes.")]
StepsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Steps to compare in a row; a quarter more follow.")]


class Via(str, Enum):
    """How a TensorRT engine is built."""

    ONNX = "onnx"
    TORCH_TENSORRT = "torch-tensorrt"


class Backend(str, Enum):
    """What an engine is built for."""

    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


def build(
    model: ModelArgument,
    backend: Annotated[Backend, typer.Option(help="Which runtime.")],
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION", help="fp32, bf16 (openvino) or fp16 (tensorrt); auto: the fastest that holds."
        ),
    ] = "auto",
    rows: RowsOption = 1,
    via: Annotated[Via, typer.Option(help="tensorrt: by way of an ONNX graph, or straight from torch.")] = Via.ONNX,
    steps: StepsOption = 1000,
    graph_only: Annotated[
        bool,
        typer.Option("--graph-only", help="tensorrt: only write NAME.fp16.onnx, for a machine without torch. No GPU."),
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Also if it is there already.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Install it also if it fails its certificate.")] = False,
) -> None:
    """Build a model's engine for this machine, compare it with the eager network, and install it if it holds.

    Takes seconds for openvino, and minutes for tensorrt. What is installed already is left alone: --rebuild compares it
    again. `streamer run` finds it by itself.
    """
    from engines.build.install import add_graph, build_for_here

    if graph_only:
        if backend is not Backend.TENSORRT:
            raise ConfigError("--graph-only writes what TensorRT builds from; give --backend tensorrt")
        typer.echo(f"graph        {add_graph(model)}")
        return
    done = build_for_here(
        model,
        backend.value,
        precision=precision,
        rows=rows,
        via=via.value,
        steps=steps,
        rebuild=rebuild,
        force=force,
        progress=tell,
    )
    for certificate in done.certificates:
        typer.echo(f"certificate  {certificate.backend} {certificate}")
    typer.echo(f"engine       {done.path}{' (was there)' if done.found else ''}")
    typer.echo(f"sidecar      {done.sidecar}")
    typer.echo(f"to run it:   streamer run 0 --model {model} --backend {backend.value}")


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME.engine, NAME.onnx or a model's name.")],
    backend: Annotated[
        str, typer.Option(metavar="BACKEND", help="openvino or tensorrt; auto: what the file is for.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="PRECISION", help="What to run it in; auto: as a run does.")
    ] = "auto",
    rows: RowsOption = 1,
    steps: StepsOption = 1000,
    against: Annotated[
        Path | None, typer.Option(metavar="NAME.pt", help="The model's weights, if they are not beside the engine.")
    ] = None,
) -> None:
    """Run an engine beside the eager network over drawn video, and tell how they differ; changes nothing.

    Exit code 4 if it differs by more than is allowed.
    """
    from engines.build.install import verify as compare

    certificate = compare(model, backend, precision=precision, rows=rows, steps=steps, against=against, progress=tell)
    typer.echo(f"{certificate.backend} {certificate}")
    if certificate.fault:
        raise EngineError(f"{model}: does not hold: {certificate.fault}; build it again, or report it")
    typer.echo(f"{model}: holds")


def tell(line: str) -> None:
    """Progress, on standard error."""
    typer.echo(line, err=True)
