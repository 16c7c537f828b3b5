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
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import parent_process, set_start_method
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.multiprocessing.spawn import ProcessExitedException

from engines.build.model import build_model
from engines.errors import EngineError
from engines.networks.checkpoints import read_state_dict
from engines.spec import read_spec
from tools.errors import ToolError
from tools.train.feeds import open_feed
from tools.train.initial import build
from tools.train.progress import writing
from tools.train.recipe import Recipe, read_recipe
from tools.train.trainer import Stop, Trainer, run

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # here, because each process announces itself early
STOPPED = 143  # exit code: asked to end before the end
PATIENCE = timedelta(hours=12)  # of the other processes while the first one evaluates


def _work(fabric: Fabric, recipe: Recipe, out: Path, resume: bool) -> tuple[int, str]:
    """One process of a run: the exit code and, with 2, what is wrong."""
    if recipe.processes > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(1)  # on busy cores threads wait for each other at every operation, processes do not
    if parent_process() is not None:
        set_start_method(None, force=True)  # data workers begin as anywhere else: spawned ones import for seconds
    if not fabric.is_global_zero:
        logging.disable(logging.WARNING)  # the first process has told it
    with Stop() as stop:
        try:
            trainer = Trainer(recipe, open_feed(recipe, fabric.world_size), out, fabric)
            if resume:
                trainer.load()
            return 0 if run(trainer, stop) else STOPPED, ""
        except ToolError as error:
            return 2, str(error)


def train(recipe: Recipe, out: Path, *, resume: bool = False, device: str = "auto") -> int:
    """Train to the end of the recipe and export the model; 0, or 143 where the run was asked to stop.

    Raises ToolError for what cannot be used.
    """
    if out.resolve().name in ("", "checkpoint", "weights"):
        raise ToolError(f"--out {out}: the model is called as the folder, and this name is taken; choose another")
    if not resume and (out / "checkpoint.pt").exists():
        raise ToolError(f"{out} holds a run: go on with it by --resume, remove it, or give another --out")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    spawns = recipe.processes > 1 and not _by_torchrun()
    try:
        fabric = Fabric(
            accelerator=device,
            devices=recipe.processes,
            strategy=DDPStrategy(start_method="spawn" if spawns else "popen", timeout=PATIENCE)
            if recipe.processes > 1
            else "auto",
            precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise ToolError(
            f"{recipe.processes} processes cannot run on the device {device!r}: {' '.join(str(error).split())}"
        ) from error
    work = partial(_work, recipe=recipe, out=out, resume=resume)
    code, fault = _spawn(fabric, work) if spawns else fabric.launch(work)
    if code == 2:
        raise ToolError(fault)
    if code == 0 and fabric.is_global_zero:
        export(recipe, out)
    return code


def _spawn(fabric: Fabric, work: Callable[[Fabric], tuple[int, str]]) -> tuple[int, str]:
    """Work in processes of its own, which get the signals of this one; what the first of them returns."""
    with Stop(pass_on=True) as stop:
        try:
            return cast(tuple[int, str], fabric.launch(work))
        except ProcessExitedException as error:
            if stop.asked:  # before they could listen
                return STOPPED, ""
            hint = " (was the memory full?)" if error.signal_name == "SIGKILL" else ""
            raise ToolError(f"{error}{hint}; --resume goes on from the newest checkpoint") from error


def export(recipe: Recipe, out: Path) -> None:
    """weights.pt -> the model's files, called as the folder. Raises ToolError where that fails."""
    path, name = out / "weights.pt", out.resolve().name
    try:
        spec = read_spec(path)
        net = build(recipe.model_copy(update={"init": None}), spec.labels)
        net.load_state_dict(read_state_dict(path, str(path)))
        spec = build_model(net.eval(), msgspec.structs.replace(spec, name=name, files={}), out)
    except (EngineError, OSError, RuntimeError) as error:
        what, _, _ = str(error).partition("\n")
        raise ToolError(f"the weights are in {path}, but no model can be made of them: {what}") from error
    print(f"wrote {out / name}.onnx, {spec.version}: try `streamer run --model {out / name}.onnx`")


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's keys that the command line, or torchrun, sets."""
    processes = int(os.environ["WORLD_SIZE"]) if _by_torchrun() else options.processes
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
        return train(recipe, out, resume=options.resume, device=options.device)
    except ToolError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
