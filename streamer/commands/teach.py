"""`streamer teach`."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines import EngineError, EngineSpec
from engines.errors import install
from engines.loading import find_models
from engines.spec import NAME, read_spec
from streamer.commands.record import INTERRUPTED, SourceOption, record_clips
from streamer.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from streamer.teaching.folder import Sample
    from streamer.teaching.telling import View
    from streamer.types import Image

NEEDED = ("torch", "onnx", "onnxscript", "lightning_fabric", "tensorboardX")
CLIPS = Path("clips")
EXAMPLES = """\b
Examples:
  streamer teach                                            # what clips/LABEL/ holds, into runs/mine
  streamer teach clips --out runs/mine2                     # and what was corrected in clips/answers/
  streamer teach --record wave --record nothing --source 0  # record ten clips of each first
"""


def teach(
    folder: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER...",
            help="Of clips, with a folder for each label; its corrections in answers/ are read, too. [default: clips]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the model, which is called as it.")] = Path(
        "runs/mine"
    ),
    record: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Record ten clips of it into FOLDER first; repeatable.")
    ] = None,
    source: SourceOption = "0",
    start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The model that it begins with; repeatable, the best is kept. [default: all shipped ones that can be]",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also if there is a model in --out.")] = False,
) -> None:
    """Teach a model actions of your own from a few clips of each. Needs torch: the extra `train`.

    Checks the clips, computes what the model's last layer reads of them, solves for that layer, and measures it on
    clips that are held out in turn. Ten clips of a label are a good beginning, and some of `nothing`.
    """
    check_extra()
    check_out(out, replace=replace)
    folders = folder or [CLIPS]
    try:
        for label in record or ():
            record_clips(label, source, folders[0])
        _teach(folders, out, start or default_starts())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def check_extra() -> None:
    """EngineError without what the extra `train` brings."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise EngineError(f"teaching needs {', '.join(missing)}: {install('train')}")


def check_out(out: Path, *, replace: bool) -> None:
    """ConfigError for a folder that cannot be a model's, or has one."""
    if not re.fullmatch(NAME, out.resolve().name):
        raise ConfigError(f"--out {out}: the model is called as the folder; take letters, digits, - and _")
    try:
        there = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; give another folder") from error
    if there and not replace:
        raise ConfigError(f"--out {out}: is not empty ({there[0]}); give another --out, or --replace to write over it")


def default_starts() -> list[str]:
    """The shipped models that can be begun with, those that run as a stream; the quickest first."""
    specs = {name: read_spec(sidecar) for name, sidecar in find_models().items()}
    streams = [name for name, spec in specs.items() if spec.mode == "stream"]
    return sorted(streams, key=lambda name: specs[name].step_macs or 0)


def _teach(folders: Sequence[Path], out: Path, starts: Sequence[str]) -> None:
    from rich.console import Console

    from streamer.teaching.folder import check, gather
    from streamer.teaching.telling import View

    console = Console(markup=False, highlight=False, soft_wrap=True)
    began = time.monotonic()
    samples = check(gather(folders), console.print)
    labels = sorted({sample.label for sample in samples})
    console.print(f"{len(samples)} clips of {len(labels)} labels: {', '.join(labels)}")
    if "nothing" not in labels:
        console.print("no clips of nothing: whatever people do then, the model will take it for one of these")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with View(console) as view:
        view.show("loading torch")
        spec = _learn(samples, labels, out, starts, view)
    model = out / f"{spec.name}.onnx"
    console.print(f"wrote {model}, {spec.version}, after {time.monotonic() - began:.0f} s")
    console.print(f"try it:  streamer run 0 --model {shlex.quote(str(model))}")


def _learn(
    samples: Sequence[Sample], labels: Sequence[str], out: Path, starts: Sequence[str], view: View
) -> EngineSpec:
    """Learn, tell what was learned, and write it."""
    from engines.training import teach as lessons
    from engines.training.loop import Stop, keep_memory
    from streamer.teaching.frames import frames_of

    keep_memory()

    def read(number: int, spec: EngineSpec) -> Image | None:
        if stop.asked:
            raise KeyboardInterrupt
        try:
            return frames_of(samples[number].path, spec)
        except SourceError as error:
            view.say(f"left out: {error}")
            return None

    examples = [lessons.Example(labels.index(one.label), one.begin, one.end) for one in samples]
    corrected = [number for number, sample in enumerate(samples) if sample.corrected]
    with Stop() as stop:
        lesson = lessons.learn(starts, labels, examples, read, corrected=corrected, show=view.show, say=view.say)
    for line in lessons.confusions(lesson.trial, examples, labels):
        view.say(line)
    view.show("making the model and its certificate, some 20 s")
    with writing(out):
        return lessons.write_model(lesson, out)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """What goes wrong on the disk becomes a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); nothing was; free some space") from error
