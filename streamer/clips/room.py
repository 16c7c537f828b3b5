"""The clips of a run: a thread that writes them, keeps the limits, lists them and takes answers, after all else.

Whatever the disk does, nobody waits for it: what cannot be written costs clips, is told once, and is tried again with
the next clip.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from engines import EngineSpec
from engines.errors import did_you_mean
from streamer.clips.folder import Folder
from streamer.clips.preroll import Preroll
from streamer.clips.stream import Job, StreamClips
from streamer.config import ClipsConfig, EventConfig
from streamer.errors import ConfigError
from streamer.labels.commands import ClipReport
from streamer.sources import Source

NICENESS = 10
MOST_ASKED = 16  # requests that wait for the disk
MOST_BYTES = 1 << 28  # of clips that wait to be written
CLOSE_S = 5.0  # how long the end of a run waits for its last clips
_LOOK_S = 0.1  # how often it looks whether a clip's last packets are there
_PATIENCE_S = 3.0  # for them: a camera that is away sends none
_TIDY_S = 3600.0
_DECIDE_S = 2.0  # an event is told later than it begins: by `enter_s`, and by what the average takes

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ask:
    """Something to be done with the folder, and who waits for it."""

    do: Callable[[], Any]
    done: Future[Any]


class Clips:
    """The clips of a run, in the folder that the configuration names, until `close`. ConfigError if it cannot be
    written, or the model has no such label as the configuration names.

    `close` and the counts are for any thread, all else is for the engine's.

    written, deleted  clips so far; deleted: by the limits
    dropped           events and moments without a clip, by reason: `failed` (the disk), `busy` (too many wait for it),
                      `no_keyframe` (the camera has sent none)
    trouble           why the last clip could not be written; "": it was
    """

    def __init__(self, config: ClipsConfig, events: EventConfig, spec: EngineSpec) -> None:
        assert config.folder
        self._config = config
        self.check(spec)
        longest_s = max([events.enter_s, *(rule.enter_s or 0 for rule in events.labels.values())])
        self._keep_s = config.before_s + longest_s + _DECIDE_S
        self._folder = Folder(config.folder, config.keep_gb, config.keep_days)
        self.written = self.deleted = 0
        self.dropped = Counter({"failed": 0, "busy": 0, "no_keyframe": 0})
        self.trouble = ""
        self._prerolls: dict[Source, Preroll] = {}
        self._streams: dict[str, tuple[Source, StreamClips]] = {}
        self._inbox: queue.SimpleQueue[Job | _Ask | None] = queue.SimpleQueue()
        self._asked: list[Future[Any]] = []
        self._lock = threading.Lock()  # of what follows
        self._jobs: list[Job] = []  # that are not written yet
        self._left_out = 0
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def check(self, spec: EngineSpec) -> None:
        """ConfigError if the model has no such label as the configuration names."""
        for label in self._config.labels:
            if label not in spec.labels:
                hint = did_you_mean(label, spec.labels, f"it has {', '.join(spec.labels)}")
                raise ConfigError(f"clips.labels: the model has no label {label!r}; {hint}")

    @property
    def bytes(self) -> int:
        """What the clips take on the disk, without answers."""
        return self._folder.bytes

    @property
    def memory_bytes(self) -> int:
        """What the last seconds of all sources take in memory."""
        return sum(preroll.bytes for preroll in tuple(self._prerolls.values()))

    @property
    def left_out(self) -> int:
        """Pictures that the machine was too slow to encode."""
        return self._left_out + sum(preroll.left_out for preroll in tuple(self._prerolls.values()))

    def of(self, stream: str, source: Source) -> StreamClips:
        """The clips of a stream of this source, which is about to be read. Several streams may share a source."""
        if source not in self._prerolls:
            self._prerolls[source] = Preroll(self._keep_s, self._config.memory_mb * 1_000_000)
            source.on_packet = self._prerolls[source].put
        clips = StreamClips(stream, self._prerolls[source], self._config, self._write_later, self._lost)
        self._streams[stream] = source, clips
        return clips

    def forget(self, stream: str) -> None:
        """A stream is no more, and its source is not read any more if no other stream shares it."""
        source, clips = self._streams.pop(stream)
        clips.close()
        if all(source is not other for other, _ in self._streams.values()):
            self._left_out += self._prerolls.pop(source).left_out

    def reports(self) -> Future[list[ClipReport]]:
        """The newest clips."""
        return self._ask(self._folder.reports)

    def answer(self, clip: str, label: str) -> Future[dict[str, Any]]:
        """Keep what somebody says that a clip shows; as `Folder.answer`."""
        return self._ask(lambda: self._folder.answer(clip, label))

    def close(self) -> None:
        """End and write the clips that are open; then the thread ends. Waits for it a few seconds."""
        for stream in list(self._streams):
            self.forget(stream)
        self._inbox.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning("clips.folder %s: does not answer; the last clips may be missing", self._folder.path)

    def _ask(self, do: Callable[[], T]) -> Future[T]:
        self._asked = [one for one in self._asked if not one.done()]
        if len(self._asked) >= MOST_ASKED or not self._thread.is_alive():
            raise ConfigError(f"clips.folder {self._folder.path}: does not answer; try again later")
        done: Future[T] = Future()
        self._asked.append(done)
        self._inbox.put(_Ask(do, done))
        return done

    def _write_later(self, job: Job) -> None:
        with self._lock:
            fits = sum(one.take.bytes for one in self._jobs) <= MOST_BYTES
            self._jobs += [job] * fits
        if fits:
            self._inbox.put(job)
        else:
            job.preroll.drop(job.take)
            self._lost("busy")

    def _lost(self, reason: str) -> None:
        with self._lock:
            self.dropped[reason] += 1

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        open_: list[tuple[float, Job]] = []  # with when to wait no longer
        self._tidy()
        tidied = time.monotonic()
        closing = False
        while not closing or open_:
            try:
                one = self._inbox.get(timeout=_LOOK_S if open_ else _TIDY_S)
            except queue.Empty:
                pass
            else:
                if isinstance(one, Job):
                    open_.append((time.monotonic() + self._config.after_s + _PATIENCE_S, one))
                elif one:
                    self._do(one)
                else:
                    closing = True
            now = time.monotonic()
            for due, job in list(open_):
                if closing or job.take.closed or now >= due:
                    open_.remove((due, job))
                    self._write(job)
            if now - tidied >= _TIDY_S:
                tidied = now
                self._tidy()

    def _do(self, asked: _Ask) -> None:
        try:
            asked.done.set_result(asked.do())
        except OSError as error:
            told = (
                f"clips.folder {self._folder.path}: {error.strerror or error}; is there space, and may it be written?"
            )
            asked.done.set_exception(ConfigError(told))
        except Exception as error:  # whoever asked gets it
            asked.done.set_exception(error)

    def _write(self, job: Job) -> None:
        job.preroll.drop(job.take)
        try:
            written = self._folder.save(job.note, job.take.packets, job.part_us)
        except Exception as error:  # the next clip may be written
            self._lost("failed")
            trouble = getattr(error, "strerror", None) or repr(error)
            if trouble != self.trouble:
                self.trouble = trouble
                log.warning(
                    "clips.folder %s: a clip cannot be written: %s; labels go on, clips are tried again",
                    self._folder.path, trouble, exc_info=not isinstance(error, OSError),
                )  # fmt: skip
        else:
            if self.trouble:
                log.warning("clips.folder %s: clips are written again", self._folder.path)
            self.trouble = ""
            self.written += written
            self._tidy()
        with self._lock:
            self._jobs.remove(job)

    def _tidy(self) -> None:
        try:
            self.deleted += self._folder.tidy()
        except OSError as error:
            log.warning("clips.folder %s: old clips cannot be deleted: %s", self._folder.path, error.strerror)
