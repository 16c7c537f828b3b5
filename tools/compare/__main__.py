"""Networks side by side.

python -m tools.compare [motion] ...      which way does a picture move, drawn clips: tools/compare/motion.py
python -m tools.compare jhmdb ...         21 actions of people, J-HMDB: tools/compare/jhmdb.py
python -m tools.compare few ...           five actions from a few clips each: tools/compare/few.py
python -m tools.compare networks ...      TSN, TSM and TCM on J-HMDB, trained at one budget: tools/compare/networks.py
python -m tools.compare tuned ...         what those networks tell of the clips themselves: tools/compare/tuned.py
python -m tools.compare pack ...          J-HMDB as a few small films, which networks reads: tools/compare/packed.py
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

ROOMS = {"pack": "packed"}
BENCHMARKS = ("motion", "jhmdb", "few", "pack", "networks", "tuned")


def main(arguments: list[str]) -> int:
    """The benchmark that the first argument names, motion by default; its exit code, 2 for what cannot be used."""
    from engines import EngineError  # brings numpy, which reads OMP_NUM_THREADS when it is loaded

    name, rest = (
        (arguments[0], arguments[1:]) if arguments[:1] and arguments[0] in BENCHMARKS else ("motion", arguments)
    )
    try:
        return int(import_module(f"tools.compare.{ROOMS.get(name, name)}").main(rest))
    except EngineError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
