"""What a run can be asked, and what it answers. Pure: control.py has the socket.

    {"command": "add", "source": {"uri": "rtsp://camera/1", "name": "door"}}    ->  {"ok": {"stream": "door"}}
    {"command": "reset", "stream": "dor"}    ->  {"error": "there is no stream 'dor'; did you mean 'door'?"}

    status             the run and its streams
    snapshot           the last `state` and `status` message of every stream
    reset    stream    its temporal state starts anew: open event ends, epoch + 1, a `gap` message; all with `reset`
    add      source    one more stream; the source is written as in the configuration, as an address or with its fields.
                       One with views gives several, which the reply has as `streams`. A `term` is told in its messages.
                       With `held` it sees no frame until `state`
    remove   stream    it ends: open event with `shutdown`, status `stopped`, and new subscribers hear nothing of it.
                       With a `term` only if its own is not later
    state    stream    it ends, for another run to go on with: the reply's `file` has its temporal state; whoever asks
                       deletes it. With a `file` the reverse: a stream that is held goes on from there
    set      set       settings of events, {"events.enter": 0.7}, are obeyed from the next step on; null takes one back
    model    model     another model, by name or file, takes over: events end, epoch + 1, a `gap`; all with `model`
    clips              the clips of the run's folder, the newest first, 1000 at most
    answer   clip      what somebody saw there: a label, `nothing`, or "" to take an answer back; the reply tells the
             label     answer `before`, which another may have given
    drain              take no more frames, tell what those that were taken say, end the run with exit code 0

A request without a field that has a column here is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args

import msgspec
from msgspec import Meta
from pydantic import BaseModel, ValidationError

from engines.errors import EngineError
from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.labels.messages import Message
from streamer.settings import explain
from streamer.sources import Source
from streamer.text import redact

MOST_FIELDS, MOST_NAME, MOST_LENGTH, MOST_NUMBER = 32, 64, 2048, 10**9  # of a source
MOST_PATH = 256  # characters of a setting's path
MOST_MODEL = 1024  # characters of a model's name or file
MOST_TOLD = 2000  # characters of an error
Term = Annotated[int, Meta(ge=0, lt=1 << 62)]
Written = int | str | dict[str, Any]
"""A source as a configuration has it: its address, or its fields."""
Asked = TypeVar("Asked")
Kind = TypeVar("Kind", bound=SourceConfig)

_log = logging.getLogger(__name__)


class StreamReport(msgspec.Struct, frozen=True):
    """One stream in the reply to `status`; `uri` without passwords, the others as in its messages (0: no term).

    work_ms: processor time that reading and decoding its source takes here for a second; 0: not measured yet
    """

    stream: str
    uri: str
    source: str
    detail: str
    epoch: int
    captured: int
    inferred: int
    term: int = 0
    work_ms: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """The reply to `status`.

    labels   where they are published
    set      what `set` has changed, by path
    events   the settings of events that are obeyed now
    knows    the labels of the model
    loading  the model that is being loaded, to take over; null: none
    """

    model: str
    session: str
    labels: str | None
    draining: bool
    streams: list[StreamReport]
    set: dict[str, Any] = {}
    events: dict[str, Any] = {}
    knows: list[str] = []
    loading: str | None = None


class ClipReport(msgspec.Struct, frozen=True, kw_only=True):
    """One clip in the reply to `clips`. Times are microseconds UTC, of its first and last picture.

    label   of its event, or the best one of a moment that the model was unsure of; peak: its highest probability
    answer  what somebody said that it shows; "": nobody has
    """

    name: str
    stream: str
    label: str
    start_us: int
    end_us: int
    bytes: int
    peak: float
    answer: str
    why: Literal["event", "unsure"]


class Moves(Protocol):
    """How a stream goes on in another run."""

    def give(self, name: str) -> Future[Path]:
        """End a stream; the file of its state, as soon as it is written."""

    def read(self, path: Path) -> Any:
        """A state for `take`. Any thread may ask."""

    def take(self, name: str, passed: Any) -> None:
        """Let a stream that is held go on with a state."""


class Controlled(Protocol):
    """What the commands act on: the pipeline. ConfigError, SourceError and EngineError say why something cannot be
    done.
    """

    def report(self) -> Report:
        """The run and its streams."""

    def snapshot(self) -> list[Message]:
        """The last state and status of every stream."""

    def reset(self, name: str) -> int:
        """Start a stream's temporal state anew; returns its epoch."""

    def open(self, config: SourceConfig) -> Source:
        """The source of one more stream. Any thread may ask, since it may take its time."""

    def add(
        self, config: SourceConfig, source: Source | None = None, term: int = 0, *, held: bool = False
    ) -> list[str]:
        """Begin the streams of one more source; returns their names. source: what `open` made of it, or else it is
        opened now. term: that a fleet gave them. held: they see no frame until they take a state.
        """

    def remove(self, name: str, term: int | None = None) -> None:
        """End a stream; term: only if its own is not later."""

    @property
    def moves(self) -> Moves:
        """Streams that come from other runs, and go to them."""

    def set(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, by path; returns all that were changed since the run began."""

    def load(self, model: str) -> Any:
        """A model that can take over. Any thread may ask, since it takes its time."""

    def swap(self, loaded: Any) -> str:
        """Let what `load` gave take over; returns the version of the model."""

    def clips(self) -> Future[list[ClipReport]]:
        """The clips, as soon as the disk has told them."""

    def answer(self, clip: str, label: str) -> Future[dict[str, Any]]:
        """Somebody says what a clip shows."""

    def drain(self) -> None:
        """End the run after the frames that were taken."""


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command", tag=str.lower):
    pass


class Status(_Request, frozen=True):
    """The run and its streams."""


class Snapshot(_Request, frozen=True):
    """The last state and status of every stream."""


class Reset(_Request, frozen=True):
    """Start a stream's temporal state anew."""

    stream: str


class Add(_Request, frozen=True):
    """Begin one more stream."""

    source: Written
    term: Term = 0
    held: bool = False


class Remove(_Request, frozen=True):
    """End a stream."""

    stream: str
    term: Term | None = None


class State(_Request, frozen=True):
    """Give the temporal state of a stream, or take it from a file."""

    stream: str
    file: Annotated[str, Meta(max_length=MOST_LENGTH)] = ""


class Set(_Request, frozen=True):
    """Change settings of events."""

    set: Annotated[dict[Annotated[str, Meta(max_length=MOST_PATH)], Any], Meta(min_length=1, max_length=MOST_FIELDS)]


class Model(_Request, frozen=True):
    """Let another model take over."""

    model: Annotated[str, Meta(min_length=1, max_length=MOST_MODEL)]


class Clips(_Request, frozen=True):
    """The clips of the run's folder."""


class Answer(_Request, frozen=True):
    """What a clip shows."""

    clip: str
    label: str


class Drain(_Request, frozen=True):
    """End the run."""


Request = Status | Snapshot | Reset | Add | Remove | State | Set | Model | Clips | Answer | Drain
COMMANDS: dict[str, tuple[str, ...]] = {
    kind.__name__.lower(): tuple(field.name for field in msgspec.structs.fields(kind) if field.required)
    for kind in get_args(Request)
}
"""The commands, each with the fields that it needs."""
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def takes_time(request: Request) -> bool:
    """Whether something must be opened, loaded or read before it can be done."""
    return isinstance(request, Add | Model) or (isinstance(request, State) and request.file != "")


def answer(done: Future[Any]) -> bytes:
    """The reply to a request that was done: `{"ok": ...}` or `{"error": sentence}`, without passwords."""
    try:
        return msgspec.json.encode({"ok": done.result()})
    except (ConfigError, SourceError, EngineError) as error:
        told = redact(str(error))
    except Exception as error:
        _log.exception("a request failed")
        told = f"this failed, please report it: {redact(repr(error))}"
    return msgspec.json.encode({"error": told if len(told) <= MOST_TOLD else f"{told[:MOST_TOLD]}..."})


def act(request: Request, on: Controlled, config: SourceConfig | None = None, made: Any = None) -> Any:
    """Do what was asked; config: of the source of `add`, made: that source, or the model. Returns what is answered, or
    its future.
    """
    told: Any = {}
    match request:
        case Status():
            told = on.report()
        case Snapshot():
            told = on.snapshot()
        case Reset(name):
            told = {"stream": name, "epoch": on.reset(name)}
        case Add(_, term, held):
            assert config
            names = on.add(config, made, term, held=held)
            told = {"stream": names[0]} | ({"streams": names} if config.views else {})
        case Remove(name, term):
            on.remove(name, term)
            told = {"stream": name}
        case State(name, ""):
            told = _named(name, on.moves.give(name))
        case State(name):
            on.moves.take(name, made)
            told = {"stream": name}
        case Set(values):
            told = {"set": on.set(values)}
        case Model():
            told = {"model": on.swap(made)}
        case Clips():
            told = on.clips()
        case Answer(clip, label):
            told = on.answer(clip, label)
        case Drain():
            on.drain()
    return told


def _named(stream: str, file: Future[Path]) -> Future[dict[str, str]]:
    """The answer to `state`, as soon as the file is there."""
    told: Future[dict[str, str]] = Future()

    def tell(done: Future[Path]) -> None:
        if error := done.exception():
            told.set_exception(error)
        else:
            told.set_result({"stream": stream, "file": str(done.result())})

    file.add_done_callback(tell)
    return told


def parse(request: bytes) -> Request:
    """A request. Raises ConfigError."""
    return decoded(request, _decoder, COMMANDS)


def decoded(request: bytes, decoder: msgspec.json.Decoder[Asked], commands: Iterable[str]) -> Asked:
    """A request to a control socket that knows these commands. Raises ConfigError."""
    try:
        return decoder.decode(request)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(
            f'cannot read the request: {error}; send one JSON object such as {{"command": "status"}}; '
            f"the commands are {', '.join(commands)}"
        ) from error


def source_config(source: Written) -> SourceConfig:
    """The source of an `add`. Raises ConfigError."""
    return read_source(source, SourceConfig, Config)


def read_source(source: Written, kind: type[Kind], root: type[BaseModel]) -> Kind:
    """A source that a request has, as one of `sources` of a configuration. Raises ConfigError."""
    fields = source if isinstance(source, dict) else {"uri": source}
    if len(fields) > MOST_FIELDS:
        raise ConfigError(f"the request's source has {len(fields)} fields; {MOST_FIELDS} are allowed")
    for name, value in fields.items():
        if len(name) > MOST_NAME or (isinstance(value, str) and len(value) > MOST_LENGTH):
            raise ConfigError(f"{name[:MOST_NAME]}: is too long; {MOST_LENGTH} characters are allowed")
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            raise ConfigError(f"{name}: is too large; {MOST_NUMBER} is allowed")
    try:
        return kind.model_validate(source)
    except ValidationError as error:
        problems = [{**problem, "loc": ("sources", 0, *problem["loc"])} for problem in error.errors()]
        raise ConfigError("; ".join(explain(one, {"sources": "the request"}, root) for one in problems)) from error
