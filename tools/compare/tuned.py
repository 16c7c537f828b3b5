"""The networks that `python -m tools.compare networks` trained, asked about the clips themselves instead of its films.

    python -m tools.compare tuned --data FOLDER --runs runs/networks [--out runs/jhmdb]

As `python -m tools.compare jhmdb` asks the features that were never trained further: features of all clips are computed
once and kept in --out; on the training half of the split that a network was trained on, a last layer is solved for; the
answer after a share of a clip is the newest frame's. So the figures of both commands can be compared. Of the runs in
--runs those in the causal form are asked that learned a whole training half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from engines.training.head import Layer, Look
from engines.training.loop import keep_memory
from engines.training.progress import writing
from tools.compare.finetune import Budget
from tools.compare.jhmdb import everything, features, kept_as
from tools.compare.networks import line, read_rows, table
from tools.compare.runs import WINDOW, Row, Run, answers, shaped
from tools.errors import ToolError


def asked(row: Row, weights: Path, clips: Any, look: Look, folder: Path) -> Row:
    """The row of a run, with what its weights answer about the clips of `everything`. Raises ToolError."""
    videos, rows = clips
    run = Run(row.network, row.form, row.start, row.start, row.split, row.seed)
    pooled = shaped(run, row.backbone, len(videos.labels), Budget(**row.budget), "motion")
    try:
        saved = torch.load(weights, map_location="cpu", weights_only=True)
        state = {name: value.float() if value.is_floating_point() else value for name, value in saved.items()}
        own = Layer(state.pop("fc.weight"), state.pop("fc.bias"))
        missing, unknown = pooled.load_state_dict(state, strict=False)
        if unknown or set(missing) != {"fc.weight", "fc.bias"}:
            raise KeyError(*unknown, *missing)
    except Exception as error:  # whatever torch raises for a file that is none of its own
        raise ToolError(f"{weights}: does not hold the weights of the run {row.name}: {error}") from error
    (view,) = features(pooled.eval(), videos, look, 0, 0, folder, kept_as(weights, "motion", look))
    found = answers(pooled, own, view, rows["train"][row.split], rows["validation"][row.split])
    return msgspec.structs.replace(row, top1=found)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare tuned", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="J-HMDB's clips and split files")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/networks"),
        help="--out of tools.compare networks (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/jhmdb"), help="keeps the features (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=Look.size, help="pixels (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.size < 32:
        parser.error("--size is 32 or more")
    keep_memory()
    trained = read_rows(options.runs / "rows.jsonl").values()
    wanted = [row for row in trained if row.form == "causal" and row.trial < 0 and not row.shots]
    if not wanted:
        raise ToolError(
            f"{options.runs / 'rows.jsonl'} tells of no run in the causal form; "
            "make some with `python -m tools.compare networks`"
        )
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    clips, found = everything(options.data), []
    for row in wanted:
        look = Look(row.budget["rate_hz"], options.size, WINDOW)
        found.append(asked(row, options.runs / f"{row.name}.pt", clips, look, options.out))
        print(line(found[-1]), flush=True)
    print(table([*(row for row in trained if row.trial >= 0), *found]))
    return 0
