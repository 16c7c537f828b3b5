"""Train a network on synthetic motion or on a data set, and make a model of it.

    python -m tools.train -c configs/train/default.yaml [--out runs/default] [--resume]
    python -m tools.train -c configs/train/teach.yaml --data clips --init default
    torchrun --nproc-per-node 4 -m tools.train -c configs/train/tanet_kinetics.yaml --data k400 --init resnet50.pth

In the output folder: `NAME.onnx`, `NAME.pt` and `NAME.json`, the model, called as the folder; `checkpoint.pt`, all
that `--resume` needs; `weights.pt` and `weights.json`, the newest averaged weights while it runs; `metrics.csv`, and
TensorBoard's files. SIGTERM or Ctrl-C saves and ends.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from engines.build import build_model
from engines.errors import EngineError
from engines.networks.checkpoints import read_state_dict
from tools.errors import ToolError
from tools.feeds import open_feed
from tools.initial import build, load_teacher
from tools.recipe import Recipe, read_recipe
from tools.trainer import Trainer, run, spec_of

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # here, because each process announces itself early
STOPPED = 143  # exit code: asked to end before the end


def _work(fabric: Fabric, recipe: Recipe, out: Path, resume: bool, teacher: str | None) -> tuple[int, str]:
    """One process of a run: the exit code and, with 2, what is wrong."""
    if recipe.processes > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(1)  # on busy cores threads wait for each other at every operation, processes do not
    try:
        feed = open_feed(recipe, fabric.world_size)
        taught = None if teacher is None else load_teacher(teacher, feed.labels)
        trainer = Trainer(recipe, feed, out, fabric, taught)
        if resume:
            trainer.load()
        return 0 if run(trainer) else STOPPED, ""
    except ToolError as error:
        return 2, str(error)


def train(recipe: Recipe, out: Path, *, resume: bool = False, teacher: str | None = None, device: str = "auto") -> int:
    """Train to the end of the recipe and export the model; 0, or 143 where the run was asked to stop.

    Raises ToolError for what cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    several = recipe.processes > 1
    fabric = Fabric(
        accelerator=device,
        devices=recipe.processes,
        strategy=DDPStrategy(start_method="popen" if "TORCHELASTIC_RUN_ID" in os.environ else "spawn")
        if several
        else "auto",
        precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    before = [(number, signal.signal(number, pass_on)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        code, fault = fabric.launch(partial(_work, recipe=recipe, out=out, resume=resume, teacher=teacher))
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if code == 2:
        raise ToolError(fault)
    if code == 0 and fabric.is_global_zero:
        export(recipe, out)
    return int(code)


def export(recipe: Recipe, out: Path) -> None:
    """weights.pt -> the model's files, called as the folder. Raises ToolError where that fails."""
    feed = open_feed(recipe, 1)
    net = build(recipe.model_copy(update={"init": None}), feed.labels)
    net.load_state_dict(read_state_dict(out / "weights.pt", "the trained weights"))
    steps = 200 if recipe.causal else 4 * recipe.frames
    name = out.resolve().name
    try:
        spec = build_model(net.eval(), spec_of(recipe, feed.labels, name, {}), out, steps=steps)
    except EngineError as error:
        raise ToolError(
            f"the weights are in {out / 'weights.pt'}, but no model can be made of them: {error}"
        ) from error
    print(f"wrote {out / name}.onnx, {spec.version}: try `streamer run --model {out / name}.onnx`")


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's keys that the command line sets."""
    found: dict[str, Any] = {}
    if options.init is not None:
        found["init"] = options.init
    if options.freeze is not None:
        found["freeze"] = options.freeze
    if options.processes is not None or "WORLD_SIZE" in os.environ:
        found["processes"] = options.processes or int(os.environ["WORLD_SIZE"])
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="YAML", help="the recipe: configs/train")
    parser.add_argument("--out", type=Path, help="folder for the results (default: runs/NAME of the recipe)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data set's videos")
    parser.add_argument("--init", metavar="MODEL", help="begin with a model (default, or a file) or a checkpoint")
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
        return train(recipe, out, resume=options.resume, teacher=options.distill_from, device=options.device)
    except ToolError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
