from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import WaitFor
from tools.peers.program import descendants

TRY = """
import sys, time
from pathlib import Path
from tools.peers.program import Program, write_script
folder = Path(sys.argv[1])
program = Program(folder, str(write_script(folder)), [{"uri": "pattern://swipe"}], "process")
program.start()
program.wait_until_healthy()
print(program.pid, flush=True)
time.sleep(600)
"""


def test_a_run_and_what_it_started_die_with_the_program_that_tries_it(tmp_path: Path, wait_for: WaitFor) -> None:
    with subprocess.Popen([sys.executable, "-c", TRY, tmp_path], stdout=subprocess.PIPE, text=True) as trial:
        assert trial.stdout is not None
        started = list(descendants(int(trial.stdout.readline())))
        assert len(started) > 1  # the run and its capture process
        trial.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
