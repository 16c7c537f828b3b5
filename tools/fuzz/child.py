"""The process that reads damaged media with the sources of the pipeline, and tells what it saw; it may die of it.

    python -m tools.fuzz.child SEED FOLDER

Numbers of inputs come on standard input, one a line; for each of them one JSON object, a `Seen`, goes to standard
output.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from tools.fuzz.damage import damaged
from tools.fuzz.peers import Peer
from tools.fuzz.seeds import Seed, make_seeds

ADDRESS_SPACE = 8 << 30  # bytes; what asks for more gets none, and the machine lives on
MEMORY_MB = 1500.0  # resident, at most; the process itself has about 110
_MOST_FRAMES = 1000  # of one input; it is stopped then
_LATEST_US = 2**53  # JSON's readers keep no larger number


Outcome = Literal["read", "refused", "error", "counters", "memory", "hang", "crash"]


@dataclass(frozen=True)
class Seen:
    """What came of one input.

    outcome  read: its end came. refused: SourceError. Or a finding. error: another exception. counters: what the source
             told of its frames cannot be. memory: too much. hang, crash: of the process
    detail   the error's words, the traceback, or the stacks of the process that died
    cpu_s    processor time that it took
    peak_mb  the largest resident memory while it was read, MB
    """

    number: int
    medium: str
    damage: str
    outcome: Outcome
    detail: str
    frames: int = 0
    corrupt: int = 0
    cpu_s: float = 0.0
    peak_mb: float = 0.0


class Hurried(threading.Event):
    """A stop event for which all waiting is over at once, if it would ever be."""

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set. OverflowError for a time that cannot be waited for, as in the real one."""
        if timeout is not None and timeout > threading.TIMEOUT_MAX:
            raise OverflowError(f"timeout value is too large: {timeout}")
        return self.is_set()


class Check:
    """Reads a source, and holds it to what it promises of its frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.problem = ""

    def read(self, source: Source, connection: int) -> None:
        """Every frame, converted. Raises what the source raises."""
        stop, last_us, corrupt = Hurried(), -1, 0
        for frame in source.frames(connection, stop):
            shape = frame.bgr().shape
            for broken, words in (
                (frame.index != self.frames, f"frame {self.frames} is numbered {frame.index}"),
                (frame.connection != connection, f"connection {connection} is numbered {frame.connection}"),
                (not last_us < frame.time_us < _LATEST_US, f"time {last_us} is followed by {frame.time_us}"),
                (len(shape) != 3 or shape[2] != 3 or 0 in shape, f"the picture's shape is {shape}"),
                (source.corrupt < corrupt, f"corrupt went from {corrupt} to {source.corrupt}"),
            ):
                if broken and not self.problem:
                    self.problem = words
            last_us, corrupt = frame.time_us, source.corrupt
            self.frames += 1
            if self.frames >= _MOST_FRAMES:
                stop.set()


def look(number: int, seed: Seed, what: str, folder: Path, peer: Peer) -> Seen:
    """Read one input."""
    if seed.via == "file":
        path = folder / seed.name
        path.write_bytes(seed.parts[0])
        config = SourceConfig(uri=f"file:{path}", pace="realtime" if number % 2 else "fast")
    else:
        config = SourceConfig(uri=peer.url(seed))
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
    started, check = time.process_time(), Check()
    detail = ""
    outcome: Outcome = "read"
    source: Source | None = None
    try:
        source = open_source(config)
        check.read(source, connection=number)
        if not check.frames:
            check.problem = "the end came without a frame and without an error"
    except SourceError as error:
        outcome, detail = "refused", str(error)
    except Exception:
        outcome, detail = "error", traceback.format_exc()
    corrupt = source.corrupt if source else 0
    expected = seed.frames if seed.via == "file" else min(check.frames, seed.frames) or 1  # a connection costs some
    if what == "nothing" and (check.frames, corrupt) != (expected, 0):
        check.problem = f"a whole medium of {seed.frames} frames gave {check.frames}, {corrupt} damaged: {detail}"
    if check.problem and outcome != "error":
        outcome, detail = "counters", check.problem
    cpu_s, peak = round(time.process_time() - started, 3), peak_mb()
    if peak > MEMORY_MB and outcome != "error":
        outcome, detail = "memory", f"{peak:.0f} MB; {detail}"
    return Seen(number, seed.name, what, outcome, detail, check.frames, corrupt, cpu_s, peak)


def peak_mb() -> float:
    """The largest resident memory of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Look at inputs until there are no more."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seed, folder = int(sys.argv[1]), Path(sys.argv[2])
    seeds, peer = make_seeds(), Peer()
    print("ready", flush=True)
    for line in sys.stdin:
        number = int(line)
        print(json.dumps(asdict(look(number, *damaged(seeds, seed, number), folder, peer))), flush=True)


if __name__ == "__main__":
    main()
