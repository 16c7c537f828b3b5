"""A stream that goes on in another run, which takes its temporal state."""

from __future__ import annotations

import json
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StateMessage, StatusMessage
from streamer.labels.requests import ask
from streamer.labels.subscriber import Subscriber
from tests.conftest import WaitFor
from tests.streamer.commands.test_cli import ANY_PORT, command, environment, line_with
from tests.streamer.labels.peers import moments

SCENE = {"uri": "pattern://swipe?fps=10&size=160x120&duration=20", "pace": "fast", "name": "scene"}
FP32 = ("--set", "engine.precision=fp32", "--set", "engine.threads=1", "--set", "publish.topk=20")


class Running:
    """`streamer run` on a stream of its own, `still`; what it publishes is kept from its beginning."""

    def __init__(self, *options: object) -> None:
        arguments = ("run", "pattern://still?size=64x48&fps=5", *ANY_PORT, *options)
        self.process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        self.labels = line_with(self.process, "labels  ").split()[1]
        self.folder = Path()
        self.control = line_with(self.process, "control ").split()[1]
        self.told: list[Message] = []
        self.subscriber = Subscriber(self.labels, timeout_s=0.2, queue=100_000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                self.told.append(next(self.subscriber))

    def ask(self, name: str, **fields: Any) -> Any:
        return ask(self.control, {"command": name, **fields}, timeout_s=60)

    def said(self, kind: type[Any], stream: str = "scene") -> list[Any]:
        return [m for m in list(self.told) if isinstance(m, kind) and m.stream == stream]

    def is_ready(self, stream: str = "scene") -> bool:
        return any((s["stream"], s["source"]) == (stream, "online") for s in self.ask("status")["streams"])

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.subscriber.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    runs: list[Running] = []

    def begin(*options: object) -> Running:
        runs.append(Running(*options))
        return runs[-1]

    yield begin
    for one in runs:
        one.close()


def compared(scores: list[ScoreMessage]) -> dict[int, dict[str, float]]:
    return {score.window.last_us: dict(score.topk) for score in scores}


def until(condition: Callable[[], Any]) -> None:
    """Two networks may have to be compiled, on a machine that does other things."""
    for _ in moments(150):
        if condition():
            return


@pytest.mark.parametrize("backend", ["openvino", "eager"])
def test_labels_of_a_stream_that_was_moved_are_those_of_one_that_was_not(
    run: Callable[..., Running], backend: str
) -> None:
    if backend == "eager" and find_spec("torch") is None:
        pytest.skip("torch is not installed; `make test` installs it")
    old, new = run(*FP32, "--backend", "openvino"), run(*FP32, "--backend", backend)
    new.ask("add", source=SCENE, term=2, held=True)
    until(new.is_ready)
    old.ask("add", source={**SCENE, "name": "whole"})
    old.ask("add", source=SCENE, term=1)
    until(lambda: any(m.type == "start" for m in old.said(EventMessage)) and len(old.said(ScoreMessage)) > 40)
    given = old.ask("state", stream="scene")
    assert not new.said(object)
    path = Path(given["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert new.ask("state", stream="scene", file=str(path)) == {"stream": "scene"}
    path.unlink()
    until(lambda: old.said(StatusMessage, "whole")[-1].source == "ended")
    until(lambda: bool(new.said(StatusMessage)) and new.said(StatusMessage)[-1].source == "ended")
    end = compared(old.said(ScoreMessage, "whole"))
    before, after = old.said(ScoreMessage), new.said(ScoreMessage)
    moved = compared([*before, *after])
    assert before
    assert after
    assert after[0].window.last_us - before[-1].window.last_us == 100_000  # not one sample is missing, or seen twice
    assert moved.keys() == end.keys()
    worst = max(abs(moved[at][label] - value) for at, one in end.items() for label, value in one.items())
    assert worst < 1e-4
    assert not old.said(GapMessage)
    assert not new.said(GapMessage)

    def told(events: list[EventMessage]) -> list[Any]:
        return [
            (m.label, m.t_start_us, m.t_end_us, m.reason) for m in events if m.type == "end" and m.reason != "moved"
        ]

    assert told(old.said(EventMessage)) + told(new.said(EventMessage)) == told(old.said(EventMessage, "whole"))
    for one in (old, new):  # each start has its end at the run's own address, too
        types = [m.type for m in one.said(EventMessage) if m.type != "update"]
        assert types == ["start", "end"] * (len(types) // 2)
    assert old.said(StatusMessage)[-1].detail == "moved"
    assert {m.term for m in new.said(ScoreMessage)} == {2}
    assert {m.epoch for m in [*old.said(StateMessage), *new.said(StateMessage)]} == {0}


def test_what_cannot_be_given_or_taken_is_told_and_changes_nothing(
    run: Callable[..., Running], wait_for: WaitFor, tmp_path: Path
) -> None:
    it = run("--backend", "scripted")
    live = {"uri": "pattern://swipe?size=64x48", "name": "swipe"}
    with pytest.raises(ConfigError, match="there is no stream 'swip'; there are still"):
        it.ask("state", stream="swip")
    it.ask("add", source=live, held=True)
    with pytest.raises(ConfigError, match="swipe waits for its state, and has none to give"):
        it.ask("state", stream="swipe")
    wait_for(lambda: it.is_ready("swipe"))
    wait_for(lambda: len(it.said(StateMessage, "still")) > 1)
    given = Path(it.ask("state", stream="still")["file"])
    line, _, rest = given.read_bytes().partition(b"\n")
    header = json.loads(line)

    def take(content: bytes, stream: str = "swipe") -> None:
        (tmp_path / "state").write_bytes(content)
        it.ask("state", stream=stream, file=str(tmp_path / "state"))

    def written(**changes: Any) -> bytes:
        return json.dumps({**header, "stream": "swipe", **changes}).encode() + b"\n" + rest

    memory = header["memory"]
    for content, message in (
        (line + b"\n" + rest, "this is the state of still, not of swipe"),
        (b"", "is no state of a stream"),
        (b"{}\n", "missing required field"),
        (written()[:-5], "it was cut off"),
        (written() + bytes(2_000_000), "at most [0-9]+ bytes in a file are"),
        (written(model="other@12345678"), "this state is of other@12345678, this run has default@"),
        (written(arrays=[["steps", "int64", [7]]]), r"has \('steps', 'int64', \(7,\)\), and this run has"),
        (written(arrays=[]), "has 0 tensors"),
        (written(memory={**memory, "decider": {**memory["decider"], "raw": [0.5]}}), "with other labels"),
        (written(memory={**memory, "times": ["x"]}), "Expected `int`"),
    ):
        with pytest.raises(ConfigError, match=message):
            take(content)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        it.ask("state", stream="swipe", file=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="at most"):
        it.ask("state", stream="swipe", file="/dev/zero")
    assert not it.said(ScoreMessage, "swipe")
    take(written())
    with pytest.raises(ConfigError, match="swipe runs; only a stream that was added with `held` takes a state"):
        take(written())
    given.unlink()


def test_live_frames_that_came_meanwhile_are_seen(run: Callable[..., Running], wait_for: WaitFor) -> None:
    """Two runs on one clock: what the second sees goes on where the first stopped, however long the state took."""
    old, new = run("--backend", "scripted"), run("--backend", "scripted")
    live = {"uri": "pattern://swipe?size=64x48", "name": "scene"}
    new.ask("add", source=live, held=True)
    wait_for(new.is_ready)
    old.ask("add", source=live)
    wait_for(lambda: len(old.said(ScoreMessage)) > 10)
    given = Path(old.ask("state", stream="scene")["file"])
    new.ask("state", stream="scene", file=str(given))
    given.unlink()
    wait_for(lambda: len(new.said(ScoreMessage)) > 10)
    times = [m.window.last_us for m in [*old.said(ScoreMessage), *new.said(ScoreMessage)]]
    assert times == sorted(set(times))
    assert not new.said(GapMessage)
    assert all(m.ready for m in new.said(ScoreMessage))
