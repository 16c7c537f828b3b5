from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from tools.errors import ToolError
from tools.faults.nets import Nets

KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], 9), 2)"


@pytest.fixture
def nets() -> Iterator[Nets]:
    try:
        nets = Nets(("a", "b"))
    except ToolError as error:
        pytest.skip(str(error))
    with closing(nets):
        yield nets


def test_a_machine_that_is_unplugged_hears_nobody_until_it_is_plugged_in_again(nets: Nets) -> None:
    def knock() -> str:
        """What b says to a at a port where nobody listens."""
        command = [*nets.command("a"), "python3", "-c", KNOCK, nets.hosts["b"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stderr.splitlines()[-1]

    assert "ConnectionRefusedError" in knock()
    nets.unplug("b")
    assert "TimeoutError" in knock()
    nets.plug("b")
    assert "ConnectionRefusedError" in knock()


def test_networks_are_gone_afterwards_and_were_never_of_this_machine(nets: Nets) -> None:
    before = {name for _, name in socket.if_nameindex()}
    assert not before & set(nets.hosts)
    nets.close()
    with pytest.raises(ToolError, match="networks cannot be made here: ip -netns"):
        nets.unplug("a")


def test_without_rights_or_the_program_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="apt-get install iproute2"):
        Nets(("a",))
