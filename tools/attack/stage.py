"""A run that is attacked, who reads its labels meanwhile, and what it takes."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from streamer import ScoreMessage, Subscriber
from streamer.errors import ConfigError
from tools.attack.cameras import tiny_pictures
from tools.attack.judge import Phase, Row, left_behind, phase
from tools.attack.target import Attack, Play, Target
from tools.peers.program import Program, write_script
from tools.peers.usage import Usage

STREAM = "door"
RATE_HZ = 30.0
REST_S = 15.0  # longest wait for what an attack took to be given back
_LOOK_S = 0.1


class Stage:
    """A run of the program with one stream, all its ports open. A new one is started when an attack has ended it."""

    def __init__(self, folder: Path, page: bool, seconds: float) -> None:
        self._folder = folder
        self._page = page
        self._seconds = seconds
        self._rounds = 0
        self._begin()

    def play(self, attack: Attack) -> Row:
        """Measure, attack, wait for rest, measure again; a second time if nothing but memory is left behind."""
        first = self._play(attack)
        if not (first.before and first.after and [problem[:6] for problem in first.problems] == ["memory"]):
            return first
        second = self._play(attack)
        return replace(second, kept_mib=round(first.after.usage.mib - first.before.usage.mib, 1))

    def _play(self, attack: Attack) -> Row:
        if self._program.exit_code() is not None:
            self.close()
            self._begin()
        row = Row(attack.name)
        logged = self._program.log.stat().st_size
        row.before = self._listen(lambda _: None)[0]
        row.during, row.problems = self._listen(attack.play)
        row.problems += self._intruded()
        row.after = self._rest(row.before.usage)
        row.problems += left_behind(row.before.usage, row.after.usage)
        if not row.after.labels:
            row.problems.append("no labels come any more")
        row.problems += self._odd_lines(logged)
        return row

    def close(self) -> list[str]:
        """End the run; what was wrong with its end."""
        self._labels.close()
        try:
            return self._program.stop() if self._program.exit_code() is None else []
        finally:
            self._program.kill()

    def _begin(self) -> None:
        self._rounds += 1
        place = self._folder / f"run{self._rounds}"
        place.mkdir()
        model = write_script(place, rate_hz=RATE_HZ)
        source = {"uri": f"pattern://swipe?fps={RATE_HZ:g}&size=320x240", "name": STREAM}
        self._program = Program(place, str(model), [source], page=self._page)
        self._program.start()
        self._labels = Subscriber(self._program.labels, kinds=["score"], timeout_s=_LOOK_S, queue=100_000)
        try:
            self._program.wait_until_healthy()
            self._warm_up()
        except BaseException:
            self.close()
            raise

    def _warm_up(self) -> None:
        """Until it has the threads and files that it needs to be asked, to run, and to read a camera."""
        self._listen(tiny_pictures)
        if self._program.page:
            urlopen(f"http://{self._program.page}/api/model", timeout=REST_S).close()
        deadline = time.monotonic() + REST_S
        before, after = Usage(0, 0, 0, 0), self._program.usage()
        while left_behind(before, after) and time.monotonic() < deadline:
            self._program.ask("status")
            before, after = after, self._listen(lambda _: None)[0].usage

    def _listen(self, play: Play) -> tuple[Phase, list[str]]:
        """Read labels while something is done to the run, at least for a phase's time."""
        target = Target(self._program, self._folder, time.monotonic() + self._seconds)
        problems: list[str] = []
        playing = threading.Thread(target=lambda: problems.extend(_played(play, target)), daemon=True)
        with suppress(TimeoutError):  # what was published before does not count
            while self._labels._unread:
                next(self._labels)
        playing.start()
        ages: list[float] = []
        peak, usage = 0.0, self._program.usage()
        look_at = 0.0
        while playing.is_alive() or time.monotonic() < target.ends:
            with suppress(TimeoutError):
                message = next(self._labels)
                if isinstance(message, ScoreMessage) and message.stream == STREAM and message.age_ms is not None:
                    ages.append(message.age_ms)
            if time.monotonic() > look_at and self._program.exit_code() is None:
                look_at = time.monotonic() + _LOOK_S
                usage = self._program.usage()
                peak = max(peak, usage.mib)
        return phase(usage, peak, ages), problems

    def _rest(self, before: Usage) -> Phase:
        """Wait until the run takes no more than before, or for as long as may be."""
        deadline = time.monotonic() + REST_S
        after = self._listen(lambda _: None)[0]
        while left_behind(before, after.usage) and time.monotonic() < deadline:
            last = self._listen(lambda _: None)[0]
            after = replace(last, peak_mib=max(after.peak_mib, last.peak_mib))
        return after

    def _intruded(self) -> list[str]:
        """What the run does that it did not do before."""
        if (code := self._program.exit_code()) is not None:
            return [f"the run ended with exit code {code}: {self._program.log.read_text()[-300:]}"]
        try:
            report = self._program.ask("status")
        except ConfigError as error:
            return [f"control does not answer: {error}"]
        streams = [stream["stream"] for stream in report["streams"]]
        problems = [] if streams == [STREAM] else [f"its streams are {streams}"]
        return problems + ["it is draining"] * report["draining"]

    def _odd_lines(self, start: int) -> list[str]:
        """Lines of the log, from a place on, that are not of JSON."""
        with self._program.log.open("rb") as log:
            log.seek(start)
            lines = log.read().splitlines()
        odd = [text for text in lines if not _is_json(text)]
        return [f"the log has {len(odd)} lines that are not of JSON, such as {odd[0][:100]!r}"] if odd else []


def _played(play: Play, target: Target) -> list[str]:
    try:
        return play(target) or []
    except (OSError, ConfigError) as error:
        return [] if isinstance(error, ConnectionError) else [f"the attack broke off: {error!r}"]


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
