from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.health.memory import ARENAS, settled

MANY_THREADS = """
import ctypes, sys, threading
from streamer.health.memory import share_heaps
if sys.argv[2] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(12)
def work():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library")
def test_threads_share_a_few_heaps(tmp_path: Path) -> None:
    heaps = {}
    for how in ("shared", "as it is"):
        command = [sys.executable, "-c", MANY_THREADS, str(tmp_path / "info"), how]
        subprocess.run(command, check=True, timeout=60)
        heaps[how] = (tmp_path / "info").read_text().count("<heap nr")
    assert heaps["shared"] <= ARENAS < heaps["as it is"]


def test_the_garbage_collector_leaves_alone_what_was_there_before_a_run_until_it_ends() -> None:
    before = gc.get_freeze_count()
    with settled():
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() == 0
