"""The whole configuration, as typed models. Every key is here, with its default, its unit and what it does.

The text below a key is its description. docs/reference/configuration.md is made of it (`python -m tools.docs`), and a
test compares them. A key that 0.1.0 did not have is Annotated[..., Since("0.2.0")].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    field_serializer,
    model_validator,
)

from streamer.region import Corners, corners

LONGEST_NAME = 64  # characters
StreamName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
ViewName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
Region = Annotated[Corners, BeforeValidator(corners)]
"""A part of the picture."""
MOST_VIEWS = 16  # of a source


@dataclass(frozen=True)
class Unit:
    """The unit of a number, for the reference."""

    name: str


@dataclass(frozen=True)
class Since:
    """The version that a key came with, for the reference; without it, 0.1.0."""

    version: str


Probability = Annotated[float, Field(ge=0, le=1), Unit("probability")]
Seconds = Annotated[float, Field(ge=0), Unit("s")]
PositiveSeconds = Annotated[float, Field(gt=0), Unit("s")]
Pixels = Annotated[int, Field(gt=0), Unit("px")]
Access = Literal["user", "group", "everyone"]
"""Who may connect to an ipc:// address: this user only, also the group of the run, or every user of the machine."""
Secret = Annotated[SecretStr, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
LONGEST_URI = 2048  # characters
Capture = Literal["thread", "process"]
"""Where a source is read: in this process, or in one of its own, which a decoder may crash or hang."""
Hwaccel = Literal["none", "cuda", "auto"]
"""Where video is decoded: on the CPU; on an NVIDIA GPU, told where it cannot; on one if there is one."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | dict) and not isinstance(value, bool) else value


ONE_OR_MORE = BeforeValidator(_listed)
"""A list of one may be written as its only item."""

_OFF = ("off", "no", "false")


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error. Errors hide the input: it may have passwords."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)
    switches: ClassVar[frozenset[str]] = frozenset()
    """The keys for which off, no and false are null."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """A section, or a key, with nothing behind its colon is as if it was not there."""
        if not isinstance(value, dict):
            return {} if value is None else value
        off = {key: None for key in cls.switches if value.get(key) is False or value.get(key) in _OFF}
        given = {**value, **off}
        fields = cls.model_fields
        return {
            key: one
            for key, one in given.items()
            if one is not None or key not in fields or NoneType in get_args(fields[key].annotation)
        }


class SourceConfig(Section):
    """One source, such as `{uri: rtsp://camera/1, name: door}`, or its address alone: `sources: [0, clip.mp4]`."""

    uri: str = Field(coerce_numbers_to_str=True, max_length=LONGEST_URI)
    """`0`, `/dev/video0` or `v4l2:NAME` (a webcam), `rtsp://...`, `http(s)://...` (MJPEG, single pictures), a file,
    `-` or a pipe, or `pattern://swipe?fps=30`."""
    user: Annotated[str | None, Since("0.2.0")] = None
    """User name of a network camera, as it is, without escaping; with `password` or `password_file`."""
    password: Annotated[Secret | None, Since("0.2.0")] = None
    """Its password, as it is. Better set as STREAMER_SOURCES__0__PASSWORD, or in a file."""
    password_file: Annotated[Path | None, Since("0.2.0")] = None
    """A file that holds the password alone, in one line; read at each connection."""
    name: StreamName | None = None
    """What the stream is called; null: made from the address."""
    required: bool = True
    """Whether `/healthz` answers 503 while this source is not online."""
    capture: Capture | None = None
    """Where this source is read, `thread` or `process`; null: as `capture` of the run says."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Files only. `fast`: as fast as it goes; times then count from the first frame."""
    loop: Annotated[bool, Since("0.2.0")] = False
    """Files only: play it again and again. Each time the temporal state starts anew, as after a gap."""
    transport: Literal["tcp", "udp"] = "tcp"
    """RTSP only: what is tried first."""
    hwaccel: Annotated[Hwaccel, Since("0.2.0")] = "none"
    """Where network cameras and files are decoded. `cuda`: on an NVIDIA GPU; where it cannot, in software, which it
    tells. `auto`: on one if there is one."""
    open_s: PositiveSeconds = 5.0
    """Time limit of a connection attempt."""
    read_s: PositiveSeconds = 2.0
    """Time limit of one read; a connection that exceeds it is closed and opened again."""
    width: Pixels | None = None
    """Webcams only: the width to ask the camera for; null: the camera's choice."""
    height: Pixels | None = None
    """Webcams only: the height to ask the camera for."""
    fps: Annotated[float, Field(gt=0), Unit("frames/s")] | None = None
    """Webcams: what to ask for. Single pictures over HTTP: how often to ask; null: as often as the model wants one.
    Raw video files, which have no timestamps: the rate by which their times are counted."""

    views: Annotated[dict[ViewName, Region], Field(max_length=MOST_VIEWS), Since("0.2.0")] = {}
    """Parts of the picture, each a stream of its own, NAME-VIEW, such as `{bed: [0, 0.2, 0.5, 1]}`: left, top, right
    and bottom, as fractions of the picture; or the corners of a polygon, `[[0.1, 0.2], [0.9, 0.2], [0.5, 1]]`."""

    @property
    def rows(self) -> int:
        """How many streams are made of it: one, or one for each of its views."""
        return max(1, len(self.views))

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, value: Any) -> Any:
        """A source may be written as its address: `sources: [0, clip.mp4]`."""
        return {"uri": value} if isinstance(value, str | int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _real_loop(self) -> SourceConfig:
        """What is played again and again has no end, so it cannot go as fast as it can."""
        if self.loop and self.pace == "fast":
            raise ValueError("loop plays in real time; leave out pace: fast")
        return self

    @model_validator(mode="after")
    def _names_of_views(self) -> SourceConfig:
        """The streams of views can be called what they will be."""
        for view in self.views:
            if self.name and len(name := f"{self.name}-{view}") > LONGEST_NAME:
                raise ValueError(
                    f"the stream of the view {view} would be called {name}, which has {len(name)} characters; "
                    f"{LONGEST_NAME} are allowed"
                )
        return self

    @model_validator(mode="after")
    def _one_password(self) -> SourceConfig:
        """User and password belong together, and the password is given once."""
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other; give one of them")
        if (self.user is None) != (self.password is None and self.password_file is None):
            raise ValueError("user belongs together with password or password_file; give both, or none")
        return self

    @field_serializer("password", when_used="json-unless-none")
    def _hidden(self, password: SecretStr, info: SerializationInfo) -> str:
        """The password itself only for `{"secrets": True}`, which the process that reads the source gets."""
        return password.get_secret_value() if info.context == {"secrets": True} else str(password)


class LabelRule(Section):
    """Thresholds of one label, such as `events: {labels: {wave: {enter: 0.8}}}`; null: as in `events`."""

    enter: Probability | None = None
    """As `events.enter`."""
    enter_s: Seconds | None = None
    """As `events.enter_s`."""
    leave: Probability | None = None
    """As `events.leave`."""
    leave_s: Seconds | None = None
    """As `events.leave_s`."""
    min_s: Seconds | None = None
    """As `events.min_s`."""
    max_s: PositiveSeconds | None = None
    """As `events.max_s`."""
    refractory_s: Seconds | None = None
    """As `events.refractory_s`."""


class EventConfig(Section):
    """How probabilities become events. All in time, never in counts of frames."""

    switches = frozenset({"unknown"})

    preset: Literal["gesture", "activity"] = "gesture"
    """`gesture`: short actions; `activity`: seconds to minutes. It sets the defaults of the values below."""
    smoothing_s: Seconds = 0.3
    """Time constant of the exponential average; all thresholds look at the average."""
    enter: Probability = 0.6
    """An event starts when its label stays at or above this for `enter_s`."""
    enter_s: Seconds = 0.15
    """How long a label must stay at or above `enter`, or must lead another, before its event starts."""
    leave: Probability = 0.35
    """An event ends when its label stays below this for `leave_s`."""
    leave_s: Seconds = 0.3
    """How long a label must stay below `leave` before its event ends."""
    switch_lead: Probability = 0.1
    """Another label ends the event when it leads by this for its `enter_s`."""
    min_s: Seconds = 0.2
    """No event ends by its score before this."""
    merge_gap_s: Seconds = 0.3
    """An event continues if its label is back at `enter` within this time. Above `leave_s` it delays the message of the
    end."""
    max_s: PositiveSeconds = 30.0
    """An event is ended after this time, with reason `max_length`."""
    refractory_s: Seconds = 0.5
    """After its event has ended, a label starts no other for this time."""
    unknown: Annotated[float | None, Field(ge=-1000, le=1000), Unit("logit"), Since("0.2.0")] = None
    """The logit of "nothing that the model knows", one more answer: the higher, the surer the model must be of all its
    labels together, so that motions nobody taught make no event. `streamer tune` finds it; null: no such answer."""
    background: Annotated[tuple[str, ...], ONE_OR_MORE] = ()
    """Labels that never make an event, such as `[still]`."""
    labels: dict[str, LabelRule] = {}
    """Thresholds of single labels, by label."""
    inhibit: dict[str, Annotated[tuple[str, ...], ONE_OR_MORE]] = {}
    """After the end of the label at the left, those at the right start nothing for `refractory_s` (return strokes)."""


class CurveConfig(Section):
    """Encryption, and who may connect; `streamer keygen` makes the files."""

    secret_key_file: Path
    """The secret key of this run, NAME.key_secret."""
    authorized_keys_dir: Path
    """A folder with NAME.key of each client; all others get nothing."""


class PublishConfig(Section):
    """The label stream."""

    switches = frozenset({"address"})

    address: str | None = "tcp://127.0.0.1:5557"
    """Where labels are published; null: nowhere."""
    ipc_access: Annotated[Access, Since("0.2.0")] = "user"
    """Who may connect to an ipc:// address; they must get into its folder, too."""
    curve: CurveConfig | None = None
    """Encryption; null: plain text, for everybody who reaches the address."""
    scores: bool = True
    """Whether a `score` message is published at every evaluation."""
    topk: Annotated[int, Field(ge=1), Unit("labels")] = 5
    """How many labels a `score` message names."""


class ViewConfig(Section):
    """The page in the browser."""

    switches = frozenset({"address"})

    address: str | None = None
    """HOST:PORT of the page; null: no page."""
    token: Secret | None = None
    """What viewers must bring. Set it as STREAMER_VIEW__TOKEN: other users can read a command line."""


class ClipsConfig(Section):
    """Short films around events, and of moments that the model was unsure of: to look at, to correct, to learn from."""

    switches = frozenset({"folder", "keep_gb", "keep_days"})

    folder: Annotated[Path | None, Since("0.2.0")] = None
    """Where clips go, as NAME.mp4 with NAME.json; answers go to its folder `answers`. null: no clips are made."""
    before_s: Annotated[Seconds, Since("0.2.0")] = 5.0
    """How long before its event a clip begins, at least; from there it goes back to the keyframe before."""
    after_s: Annotated[Seconds, Since("0.2.0")] = 3.0
    """How long it goes on after the event."""
    max_s: Annotated[PositiveSeconds, Since("0.2.0")] = 60.0
    """A clip ends after this time, even if its event goes on."""
    labels: Annotated[tuple[str, ...], ONE_OR_MORE, Since("0.2.0")] = ()
    """Only events of these labels get a clip; empty: all do."""
    unsure_a_day: Annotated[int, Field(ge=0, le=1440), Unit("clips"), Since("0.2.0")] = 6
    """Clips of the moments that the model was least sure of: one for each part of the day, of each stream. 0: none."""
    keep_gb: Annotated[Annotated[float, Field(gt=0), Unit("GB")] | None, Since("0.2.0")] = 10.0
    """When clips take more, the oldest are deleted; null: no limit. Answers stay."""
    keep_days: Annotated[Annotated[float, Field(gt=0), Unit("days")] | None, Since("0.2.0")] = 30.0
    """Older clips are deleted; null: none are. Answers stay."""
    memory_mb: Annotated[int, Field(ge=1), Unit("MB"), Since("0.2.0")] = 64
    """Memory for the last seconds of a source, and again for each open clip; a clip that would be larger ends there."""


class EngineConfig(Section):
    """How the model runs."""

    threads: Annotated[int, Field(ge=1), Unit("threads")] | None = None
    """CPU threads of the engine; null: the runtime's choice, leaving room for capture."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: the fastest that has a certificate for this model."""
    cuda_graphs: Annotated[bool, Since("0.2.0")] = True
    """On a GPU: replay the steps as CUDA graphs. `false`: queue them call by call, which is slower."""


class Config(Section):
    """Everything that `streamer run` obeys."""

    switches = frozenset({"control", "duration_s", "frozen_s", "max_age_ms", "metrics"})

    sources: Annotated[tuple[SourceConfig, ...], ONE_OR_MORE] = ()
    """The cameras, files and patterns; see below."""
    model: str = "default"
    """A model's name, as `streamer models` lists them, or a model file."""
    backend: Literal["auto", "openvino", "tensorrt", "eager", "scripted"] = "auto"
    """What runs the model. `auto`: TensorRT if an engine is built for this GPU, else torch on a GPU, else OpenVINO."""
    max_gap: Annotated[float, Field(gt=1), Unit("sample periods")] = 3.0
    """Time without a frame after which the temporal state starts anew."""
    buffer: Annotated[int, Field(ge=1), Unit("frames")] = 8
    """Frames that may wait for the engine, per stream, before the oldest is dropped."""
    batch_wait_ms: Annotated[float, Field(ge=0), Unit("ms")] = 3.0
    """How long a step waits for frames of other streams that are due; longer where a step takes longer. 0: never."""
    max_age_ms: Annotated[float, Field(gt=0), Unit("ms")] | None = 250.0
    """Older frames are dropped instead of being inferred; null: no limit."""
    frozen_s: PositiveSeconds | None = 10.0
    """A camera with the very same picture for so long, in keyframes too, is `stalled`; null: it may stand still."""
    capture: Capture = "thread"
    """Where sources are read. `process`: each in a process of its own, so that a decoder's crash ends no run."""
    duration_s: PositiveSeconds | None = None
    """Stop after this time; null: run until stopped."""
    metrics: str | None = None
    """HOST:PORT for /metrics (Prometheus) and /healthz, such as 127.0.0.1:9464; null: off."""
    engine: EngineConfig = EngineConfig()
    events: EventConfig = EventConfig()
    clips: Annotated[ClipsConfig, Since("0.2.0")] = ClipsConfig()
    publish: PublishConfig = PublishConfig()
    node: Annotated[StreamName | None, Since("0.2.0")] = None
    """This machine's name in a fleet, which its messages have as `node`; null: it is in none. With a name it goes on
    without sources, as they come by `add`."""
    rows: Annotated[Annotated[int, Field(ge=1, le=256), Unit("streams")] | None, Since("0.2.0")] = None
    """Streams that the engine is made ready for at the start, in sizes of 1, 2, 4, ..., so that none that is added
    waits for a compiler; null: each size when it is needed, as many rows as streams."""
    control: str | None = "auto"
    """Where `streamer ctl` sends commands. `auto`: a socket for this user only; null: take none."""
    control_curve: Annotated[CurveConfig | None, Since("0.2.0")] = None
    """Who may send commands: keys of their own, not those of readers; tcp:// addresses need it."""
    view: ViewConfig = ViewConfig()
