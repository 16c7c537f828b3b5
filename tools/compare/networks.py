"""TSN, TSM and TCM on J-HMDB, trained at one budget from ImageNet's weights, in the causal form and in the clip form.

    python -m tools.compare networks --data set --init efficientnet-lite0.pth mobilenet_v2.pt --device cuda

--data is what `python -m tools.compare pack` wrote. What the training is like is chosen first, on a fifth of the
training halves, by source video; the test halves decide nothing. Then each network learns on the training half of each
split, and is asked in three ways: by its own last layer, on the mean of what it has seen (`own`), by a last layer that
is solved for on the statistics and the motion of the last frames, as `python -m tools.compare jhmdb` does it on
features that were never tuned (`solved`), and by the sum of the two, which is a last layer, too (`both`).

A line of rows.jsonl in --out is a run; those that are there are not done again. Weights are kept beside it, in half
precision.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tools.compare.finetune import Budget
from tools.compare.runs import DECAYS, Row, Run, begin, do
from tools.compare.shots import CLIPS

NETWORKS = ("tsn", "tsm", "tcm")
FORMS = ("causal", "clip")
SPLITS = (1, 2, 3)
TRIALS = (
    Budget(),
    Budget(trained_from=11),
    Budget(epochs=24, learning_rate=4e-4),
    Budget(epochs=6, learning_rate=1e-4),
    Budget(epochs=24, learning_rate=1e-4, frames=12),
)
"""What is tried on held-out clips, the first one first."""


def read_rows(file: Path) -> dict[str, Row]:
    """The runs that are done; a line that was broken off is none."""
    found = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            row = msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError:
            continue
        found[row.name] = row
    return found


def chosen(rows: Sequence[Row]) -> tuple[Budget, str]:
    """The budget and the way to ask that did best on held-out clips, on average; the first of equally good ones."""
    scores: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        if row.trial >= 0:
            for way, shares in row.top1.items():
                scores.setdefault((row.trial, way), []).append(shares[-1])
    if not scores:
        return TRIALS[0], f"solved {DECAYS[1]:g}"
    trial, way = max(scores, key=lambda key: (np.mean(scores[key]), -key[0]))
    return TRIALS[trial], way


def trials(options: argparse.Namespace) -> list[Run]:
    """The runs that choose: the last of the networks, on the first file, in the causal form."""
    start = options.init[0]
    return [
        Run(options.networks[-1], "causal", start, start, split, 0, trial)
        for trial, split in product(range(options.trials), options.splits)
    ]


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """All the others, the most telling first."""
    first, split, best = options.init[0], options.splits[0], options.networks[-1]
    for start in options.init:
        for form in options.forms:
            for number, network in product(options.splits[: None if form == "causal" else 1], options.networks[::-1]):
                yield Run(network, form, start, start, number, 0)
        if start == first and options.drawn:
            yield Run("tcm", "causal", "drawn", first, split, 0)
        if start == first and options.untrained:
            for network in options.networks[::-1]:
                yield Run(network, "causal", "nothing", first, split, 0)
    for seed, number in product(range(1, options.seeds), options.splits):
        yield Run(best, "causal", first, first, number, seed)
    for seed, clips in product(range(options.draws), CLIPS):
        yield Run(best, "causal", first, first, split, seed, shots=clips)


def compare(options: argparse.Namespace) -> list[Row]:
    """Everything that is not done yet, until the time is over."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    file, until = out / "rows.jsonl", time.monotonic() + options.budget_s
    start = (options.data, options.device, options.threads)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), begin, start) as pool:
        try:
            for wanted in (trials(options), list(runs(options))):
                done = read_rows(file)
                budget, _ = chosen(list(done.values()))
                left = {
                    pool.submit(do, run, TRIALS[run.trial] if run.trial >= 0 else budget, out): run.name
                    for run in wanted
                    if run.name not in done
                }
                for future in as_completed(left):
                    try:
                        keep(future.result(), file)
                    except RuntimeError as error:  # of torch: the device has too little memory; the others go on
                        print(f"{left[future]}: failed: {error}", file=sys.stderr, flush=True)
                    if time.monotonic() > until:
                        pool.shutdown(cancel_futures=True)
                        return list(read_rows(file).values())
        except BaseException:
            for process in active_children():
                process.terminate()
            raise
    return list(read_rows(file).values())


def keep(row: Row, file: Path) -> None:
    """Write a line more, and say it."""
    with file.open("ab") as lines:
        lines.write(msgspec.json.encode(row) + b"\n")
    print(line(row), flush=True)


def line(row: Row) -> str:
    """A run in one line."""
    found = ", ".join(f"{way} {100 * shares[-1]:.1f}" for way, shares in row.top1.items())
    return f"{row.name}: {found}; {row.train_s:.0f} of {row.all_s:.0f} s"


def table(rows: Sequence[Row]) -> str:
    """The runs on whole training halves in Markdown."""
    _, way = chosen(rows)
    lines = [
        f"| network | backbone | form | start | seed | splits | own | {way} | after 20 / 40 / 60 / 80 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.split):
        if row.trial < 0 and not row.shots:
            groups.setdefault((row.network, row.backbone, row.form, row.start, row.seed), []).append(row)
    for key, found in groups.items():
        own, best = (np.array([row.top1[name] for row in found]) for name in ("own", way))
        cells = (
            *map(str, key),
            " / ".join(str(row.split) for row in found),
            " / ".join(f"{100 * x:.1f}" for x in own[:, -1]) + f" = {100 * own[:, -1].mean():.1f} %",
            " / ".join(f"{100 * x:.1f}" for x in best[:, -1]) + f" = {100 * best[:, -1].mean():.1f} %",
            " / ".join(f"{100 * x:.1f}" for x in best.mean(0)[:-1]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for clips in CLIPS:
        scores = 100 * np.array([row.top1["shots"][0] for row in rows if row.shots == clips])
        if len(scores):
            spread = f"{scores.mean():.1f} ± {scores.std():.1f} % ({len(scores)} draws)"
            lines.append(f"five actions that it never learned, {clips} clips each: {spread}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare networks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="written by tools.compare pack")
    parser.add_argument("--init", nargs="+", required=True, metavar="FILE", help="ImageNet weights")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--splits", nargs="+", type=int, choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of the last network (default: %(default)s)")
    parser.add_argument("--untrained", action="store_true", help="also from nothing, on the first split")
    parser.add_argument("--drawn", action="store_true", help="also a TCM that begins with drawn motion, likewise")
    parser.add_argument("--draws", type=int, default=0, help="also of five actions that are learned from a few clips")
    parser.add_argument("--trials", type=int, default=len(TRIALS), help="budgets that are tried on held-out clips")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each on the processor (default: %(default)s)")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="begin no run after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("runs/networks"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    few = min(options.seeds, options.jobs, options.threads) < 1 or options.draws < 0
    if few or not 0 <= options.trials <= len(TRIALS):
        parser.error(f"--seeds, --jobs and --threads are 1 or more, --draws 0 or more, --trials 0 to {len(TRIALS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = compare(options)
    print(table(rows))
    return 0
