"""python -m tools.train: the processes of a run unpickle what is in command.py, and cannot import a `__main__`."""

from __future__ import annotations

import os
import sys

from tools.train.command import main

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
