"""Train a network on synthetic motion or on a data set, and make a model of it.

    python -m tools.train -c configs/train/default.yaml [--out runs/default] [--resume]
    torchrun --nproc-per-node 4 -m tools.train -c configs/train/tanet_kinetics.yaml --data k400 --init resnet50.pth

In the output folder: `NAME.onnx`, `NAME.pt` and `NAME.json`, the model, called as the folder; `checkpoint.pt`, all
that `--resume` needs; `weights.pt` and `weights.json`, the newest averaged weights while it runs; `metrics.csv`, and
TensorBoard's files. SIGTERM or Ctrl-C saves and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from engines.errors import EngineError
from engines.training.launch import by_torchrun, train
from tools.errors import ToolError
from tools.train.feeds import open_feed
from tools.train.recipe import read_recipe


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's keys that the command line, or torchrun, sets."""
    processes = int(os.environ["WORLD_SIZE"]) if by_torchrun() else options.processes
    asked = {
        "init": options.init,
        "freeze": options.freeze,
        "distill_from": options.distill_from,
        "processes": processes,
    }
    return {key: value for key, value in asked.items() if value is not None}


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="YAML", help="the recipe: configs/train")
    parser.add_argument("--out", type=Path, help="folder for the results (default: runs/NAME of the recipe)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data set's videos")
    parser.add_argument(
        "--init", metavar="MODEL", help="begin with a model (default, or a file) or a published checkpoint"
    )
    parser.add_argument("--freeze", nargs="+", metavar="MODULE", help="keep the weights of: backbone, layer1, ...")
    parser.add_argument("--distill-from", metavar="MODEL", help="learn from a clip-form model of the same labels, too")
    parser.add_argument("--processes", type=int, metavar="N", help="on this machine; torchrun sets it itself")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--resume", action="store_true", help="continue from the folder's checkpoint")
    options = parser.parse_args(arguments)
    try:
        recipe = read_recipe(options.config, changes(options))
        if options.data is not None:
            if recipe.data is None:
                raise ToolError(f"the recipe {options.config} draws its clips itself: leave out --data")
            recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": options.data})})
        out = options.out or Path("runs") / options.config.stem
        return train(recipe, partial(open_feed, recipe), out, resume=options.resume, device=options.device)
    except EngineError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
