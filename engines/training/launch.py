"""The processes of a training run, and the model that it ends with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import parent_process, set_start_method
from pathlib import Path
from typing import cast

import msgspec
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.multiprocessing.spawn import ProcessExitedException

from ..build.model import build_model
from ..errors import EngineError
from ..networks.checkpoints import read_state_dict
from ..spec import EngineSpec, read_spec
from .feed import Feed
from .initial import build
from .loop import Stop, run
from .progress import writing
from .recipe import Recipe
from .trainer import Trainer

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # here, because each process announces itself early
FAULT, STOPPED = 2, 143  # exit codes: something cannot be used; asked to end before the end
PATIENCE = timedelta(hours=12)  # of the other processes while the first one evaluates


def train(
    recipe: Recipe,
    open_feed: Callable[[int], Feed],
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> int:
    """Train to the end of the recipe and export the model; 0, or 143 where the run was asked to stop.

    open_feed  the number of processes -> the clips that they share; each process calls it

    Raises EngineError for what cannot be used.
    """
    if out.resolve().name in ("", "checkpoint", "weights"):
        raise EngineError(f"--out {out}: the model is called as the folder, and this name is taken; choose another")
    if not resume and (out / "checkpoint.pt").exists():
        raise EngineError(f"{out} holds a run: go on with it by --resume, remove it, or give another --out")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    spawns = recipe.processes > 1 and not by_torchrun()
    fabric = _fabric(recipe, device, spawns)
    work = partial(_work, recipe=recipe, open_feed=open_feed, out=out, resume=resume)
    code, fault = _spawn(fabric, work) if spawns else fabric.launch(work)
    if code == FAULT:
        raise EngineError(fault)
    if code == 0 and fabric.is_global_zero:
        spec, model = export(recipe, out), f"{out / out.resolve().name}.onnx"
        say(f"wrote {model}, {spec.version}: try `streamer run --model {model}`")
    return code


def by_torchrun() -> bool:
    """Whether torchrun has started this process, and the others of the run."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _fabric(recipe: Recipe, device: str, spawns: bool) -> Fabric:
    strategy = DDPStrategy(start_method="spawn" if spawns else "popen", timeout=PATIENCE)
    try:
        return Fabric(
            accelerator=device,
            devices=recipe.processes,
            strategy=strategy if recipe.processes > 1 else "auto",
            precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise EngineError(
            f"{recipe.processes} processes cannot run on the device {device!r}: {' '.join(str(error).split())}"
        ) from error


def _work(fabric: Fabric, recipe: Recipe, open_feed: Callable[[int], Feed], out: Path, resume: bool) -> tuple[int, str]:
    """One process of a run: the exit code and, with a fault, what is wrong."""
    if recipe.processes > 1 and fabric.device.type == "cpu":
        torch.set_num_threads(1)  # on busy cores threads wait for each other at every operation, processes do not
    if parent_process() is not None:
        set_start_method(None, force=True)  # data workers begin as anywhere else: spawned ones import for seconds
    if not fabric.is_global_zero:
        logging.disable(logging.WARNING)  # the first process has told it
    with Stop() as stop:
        try:
            trainer = Trainer(recipe, open_feed(fabric.world_size), out, fabric)
            if resume:
                trainer.load()
            return 0 if run(trainer, stop) else STOPPED, ""
        except EngineError as error:
            return FAULT, str(error)


def _spawn(fabric: Fabric, work: Callable[[Fabric], tuple[int, str]]) -> tuple[int, str]:
    """Work in processes of its own, which get the signals of this one; what the first of them returns."""
    with Stop(pass_on=True) as stop:
        try:
            return cast(tuple[int, str], fabric.launch(work))
        except ProcessExitedException as error:
            if stop.asked:  # before they could listen
                return STOPPED, ""
            hint = " (was the memory full?)" if error.signal_name == "SIGKILL" else ""
            raise EngineError(f"{error}{hint}; --resume goes on from the newest checkpoint") from error


def export(recipe: Recipe, out: Path) -> EngineSpec:
    """weights.pt -> the model's files, called as the folder. Raises EngineError where that fails."""
    path = out / "weights.pt"
    try:
        spec = read_spec(path)
        net = build(recipe.model_copy(update={"init": None}), spec.labels)
        net.load_state_dict(read_state_dict(path, str(path)))
        return build_model(net.eval(), msgspec.structs.replace(spec, name=out.resolve().name, files={}), out)
    except (EngineError, OSError, RuntimeError) as error:
        what, _, _ = str(error).partition("\n")
        raise EngineError(f"the weights are in {path}, but no model can be made of them: {what}") from error
