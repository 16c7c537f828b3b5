"""Random trouble for the machines of a fleet, for minutes, and whether the head grows meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from streamer.errors import ConfigError
from tools.errors import ToolError
from tools.faults.machines import START_S, Machines

HEADS = 0.25  # of the time; later no head is killed, so that one lives long enough to be seen growing
WARM_S = 30.0  # after its start it has what it needs
LONGEST_S = 5.0  # of one trouble


class Trouble:
    """What happens. counts: how often; sizes: memory (MB) and open files of the head's own process, when heads are
    killed no more and at the end; slowest: the longest time that it took until every stream had labels again, seconds,
    and after what.
    """

    def __init__(self, it: Machines, seed: int = 0) -> None:
        self._it, self._chance = it, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.sizes: list[tuple[float, int]] = []
        self.slowest = (0.0, "")
        self._head_s = 0.0

    def go_on(self, minutes: float) -> None:
        """So many minutes of it. Raises ToolError if a stream has no labels for long."""
        began = time.monotonic()
        calm = dict(self._kinds())
        wild: dict[str, Callable[[str], object]] = {**calm, "head killed": self._kill_head}
        while (passed := (time.monotonic() - began) / 60 / minutes) < 1:
            kinds = calm if passed > HEADS else wild
            if kinds is calm and not self.sizes and time.monotonic() - self._head_s > WARM_S:
                self.sizes.append(self._it.head_size())
            what = self._chance.choice(list(kinds))
            node = self._chance.choice(self._it.nodes)
            mb, files = self._it.head_size()
            print(f"  {passed * minutes:5.2f} min: {what}, {node}; head: {mb} MB, {files} files", flush=True)
            kinds[what](node)
            self.counts[what] += 1
            took_s = self._it.wait(self._it.is_steady, START_S, f"labels of every stream after {what} of {node}")
            self.slowest = max(self.slowest, (took_s, what))
        self.sizes.append(self._it.head_size())

    def _kinds(self) -> list[tuple[str, Callable[[str], object]]]:
        kinds: list[tuple[str, Callable[[str], object]]] = [
            ("killed", self._kill),
            ("stopped", self._stop),
            ("run hung", self._hang),
            ("head stopped", lambda _: self._stop("head")),
            ("move", lambda node: self._order(command="move", stream=self._chance.choice(self._it.names), node=node)),
            ("balance", lambda _: self._order(command="balance")),
            ("drain", self._drain),
        ]
        if self._it.cameras:
            kinds.append(("camera gone", self._take_camera))
        if self._it.nets:
            kinds.append(("unplugged", self._unplug))
        return kinds

    def _pause(self) -> None:
        time.sleep(self._chance.uniform(0, LONGEST_S))

    def _kill(self, node: str) -> None:
        self._it.signal(node, signal.SIGKILL)
        self._pause()
        self._it.begin_node(node)

    def _kill_head(self, _: str) -> None:
        self._it.signal("head", signal.SIGKILL)
        self._pause()
        self._it.begin_head()
        self._head_s = time.monotonic()

    def _stop(self, name: str) -> None:
        self._it.signal(name, signal.SIGSTOP)
        self._pause()
        self._it.signal(name, signal.SIGCONT)

    def _hang(self, node: str) -> None:
        self._it.hang_run(node)
        self._pause()  # and it is left so

    def _unplug(self, node: str) -> None:
        assert self._it.nets
        self._it.nets.unplug(node)
        self._pause()
        self._it.nets.plug(node)

    def _take_camera(self, _: str) -> None:
        name = self._chance.choice(list(self._it.cameras))
        self._it.cameras[name].kill()
        self._pause()
        self._it.begin_camera(name)

    def _drain(self, node: str) -> None:
        if self._order(command="drain", node=node, back=False):
            with suppress(ToolError):  # nobody else may have room
                self._it.wait(lambda: not self._it.on(node), LONGEST_S, "")
            self._order(command="drain", node=node, back=True)

    def _order(self, **order: object) -> bool:
        """Whether the head does it; it may refuse, such as to move a stream to where it is."""
        try:
            self._it.order(**order)
        except ConfigError as error:
            print(f"    {error}")
            return False
        return True
