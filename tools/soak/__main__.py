"""Soak a run: python -m tools.soak [--minutes 30] [--seed N] [--model default] [--capture process]

Cameras freeze, vanish, come back and send damaged pictures; streams and subscribers come and go, stall and die;
requests are malformed; and all that is published is checked. Exit code 1, with the reasons, unless everything held and
memory, threads and file descriptors stayed flat. docs/measured/soak.md says how that is judged.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from tools.results import keep_result
from tools.soak.soak import Report, soak


def lines(report: Report) -> list[str]:
    """The report for people."""
    found = [f"seed {report.seed}, {report.minutes:g} minutes, cameras {', '.join(report.cameras)}, a pattern, a file"]
    for title, counts in (("faults", report.faults), ("messages", report.messages), ("events", report.event_ends)):
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        found.append(f"{title:9} {sum(counts.values())}: {told}")
    found.append(f"{'':12} third quarter  last quarter    growth      most")
    for one in report.growth:
        most = getattr(report.most, one.measure)
        flat = "" if one.flat else "  not flat"
        found.append(f"{one.measure:12} {one.before:13.1f} {one.after:13.1f} {one.percent:+7.2f} % {most:9.1f}{flat}")
    if report.mib_an_hour is not None:
        found.append(f"slope of the memory over the second half: {report.mib_an_hour:+.2f} MiB an hour")
    found += [f"problem: {problem}" for problem in report.problems]
    found.append("all is well" if not report.problems else f"{len(report.problems)} problems")
    return found


def main() -> int:
    """Soak, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description="Soak a run of the streamer in random trouble.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="default: another each time")
    parser.add_argument("--model", help="a name or a file, such as default; without it a script, which costs nothing")
    parser.add_argument("--capture", choices=["thread", "process"], default="thread", help="as in the configuration")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with all that it started
    print(f"seed {options.seed}", flush=True)
    report = soak(options.minutes, options.seed, options.model, options.capture, lambda line: print(line, flush=True))
    print("\n".join(lines(report)))
    if options.json:
        keep_result(parser, options.json, json.dumps(asdict(report), indent=2).encode())
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
