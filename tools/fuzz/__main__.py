"""Read damaged media with the sources of the pipeline: python -m tools.fuzz [--seconds 60] [--seed N] [--keep DIR]

Files (H.264, HEVC, VP8, VP9, MJPEG, MPEG-2, MPEG-4, ProRes, GIF, PNG, JPEG, OpenEXR; in mp4, mov, mkv, webm, ts, mpg,
flv, avi), MJPEG and MPEG-TS over HTTP, H.264 over RTSP: with flipped bits, noise, pieces that are missing, repeated or
spliced in, wrong sizes, huge pictures, other codecs. They are read in child processes; a finding is

    crash     the process died
    hang      no end within 30 s
    memory    more than 1500 MB resident
    error     an exception that is not SourceError
    counters  frames misnumbered, times that do not increase, a picture without pixels, an end without frame or error

The exit code is 1 if there is one. `--seed 7 --only 1234` reads one input again; `--keep DIR` saves those of findings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tools.fuzz.hunt import hunt, keep, report
from tools.results import keep_result


def main() -> None:
    """Hunt, print what was seen."""
    parser = argparse.ArgumentParser(description="Read damaged media with the sources of the pipeline.")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="of the damage; the same gives the same inputs")
    parser.add_argument("--only", type=int, metavar="N", help="read this input only, and show its outcome")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="save the inputs of findings")
    options = parser.parse_args()
    started = time.monotonic()
    seen = hunt(options.seed, options.seconds, None if options.only is None else [options.only], options.jobs)
    figures = report(options.seed, time.monotonic() - started, seen)
    if options.json:
        keep_result(parser, options.json, json.dumps(figures, indent=2).encode() + b"\n")
    if options.keep:
        keep(options.keep, options.seed, seen)
    for medium, outcomes in sorted(figures["media"].items()):
        print(f"{medium:18} " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    if options.only is not None:
        print("".join(f"{one}\n" for one in seen), end="")
    print(
        f"seed {options.seed}: {figures['inputs']} inputs in {figures['seconds']} s, {figures['frames']} frames, "
        f"{figures['corrupt']} damaged; slowest {figures['slowest_cpu_s']:.1f} s of processor, "
        f"memory up to {figures['peak_mb']:.0f} MB"
    )
    for finding in figures["findings"]:
        print(f"FOUND {finding['outcome']}: input {finding['number']}, {finding['medium']} ({finding['damage']})")
        print("    " + finding["detail"].strip().replace("\n", "\n    "))
    sys.exit(1 if figures["findings"] else 0)


if __name__ == "__main__":
    main()
