"""What a network costs, before anything is trained: python -m tools.bench.describe tcm --backbone resnet50 --frames 8

Parameters, multiply-adds, the memory of one stream in fp32 and what is in it, and how many frames late an answer is.
All of it is counted from the network itself; no weights are needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from math import inf

from engines import EngineError
from engines.networks import BACKBONES, NETWORKS
from engines.networks.measure import Cost, Description, describe


def lines(description: Description, frames: int) -> Iterator[str]:
    """The figures as text."""
    yield f"parameters   {description.parameters / 1e6:.2f} M"
    yield f"clip         {description.clip_macs / 1e9:.2f} G multiply-adds for {frames} frames, nothing cached"
    yield f"window       {cost_line(description.window)}"
    if description.stream is None:
        yield "stream       this network has no causal form"
    else:
        frames_seen = description.stream.reach.behind + 1
        memory = "the whole stream" if frames_seen == inf else f"{frames_seen:g} frames"
        yield f"stream       {cost_line(description.stream)}, memory {memory}"
    for mode, cost in (("window", description.window), ("stream", description.stream)):
        if cost is not None:
            yield f"kept by a {mode}:"
            width = max(map(len, cost.states))
            for name, shape in cost.states.items():
                yield f"  {name:{width}}  {' x '.join(map(str, shape)) or '1'}"


def cost_line(cost: Cost) -> str:
    """Step, memory and latency."""
    return (
        f"{cost.step_macs / 1e9:.2f} G multiply-adds for each new frame, "
        f"{cost.state_bytes / 1024:.0f} KiB kept (fp32), latency {cost.reach.ahead:g} frames"
    )


def option(text: str) -> tuple[str, int | str]:
    """NAME=VALUE, the value a number if it is one."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, int(value) if value.isdigit() else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures of one network; 4 if there is no such network."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.describe", description="What a network costs.")
    parser.add_argument("network", help=", ".join(NETWORKS))
    parser.add_argument("--backbone", default="resnet50", help=", ".join(BACKBONES))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--classes", type=int, default=174)
    parser.add_argument("--size", type=int, default=224, help="of the square picture, pixels")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the backbone's channels")
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="as aggregator=lstm"
    )
    args = parser.parse_args(arguments)
    try:
        figures = describe(
            args.network,
            args.backbone,
            frames=args.frames,
            classes=args.classes,
            size=args.size,
            width=args.width,
            **dict(args.option),
        )
    except EngineError as error:
        print(f"describe: {error}", file=sys.stderr)
        return error.exit_code
    for line in lines(figures, args.frames):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
