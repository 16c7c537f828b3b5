"""The whole configuration, as typed models. Every knob is here, with its default and its unit."""

from __future__ import annotations

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

StreamName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Access = Literal["user", "group", "everyone"]
"""Who may connect to an ipc:// address: this user only, also the group of the run, or every user of the machine."""
Secret = Annotated[SecretStr, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
LONGEST_URI = 2048  # characters
Capture = Literal["thread", "process"]
"""Where a source is read: in this process, or in one of its own, which a decoder may crash or hang."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | dict) and not isinstance(value, bool) else value


ONE_OR_MORE = BeforeValidator(_listed)
"""A list of one may be written as its only item."""

_OFF = ("off", "no", "false")


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error. Errors hide the input: it may have passwords."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
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
    """One source. `uri`: 0, /dev/video0, v4l2:NAME, rtsp://..., http(s)://... (MJPEG), a file, pattern://swipe?fps=30."""

    uri: str = Field(coerce_numbers_to_str=True, max_length=LONGEST_URI)
    user: str | None = None  # of a network camera; as it is, where an address wants it percent-encoded
    password: Secret | None = None  # as it is; better set by STREAMER_SOURCES__0__PASSWORD, or in a file
    password_file: Path | None = None  # or a file that holds the password, read at each connection
    name: StreamName | None = None  # default: made from the URI
    required: bool = True  # /healthz answers 503 while this source is not online
    capture: Capture | None = None  # null: as the run's
    pace: Literal["realtime", "fast"] = "realtime"  # files only; fast: as it goes, times count from the first frame
    transport: Literal["tcp", "udp"] = "tcp"  # RTSP only
    open_s: PositiveSeconds = 5.0  # time limit of a connection attempt
    read_s: PositiveSeconds = 2.0  # time limit of one read; a connection that exceeds it is given up
    width: Annotated[int, Field(gt=0)] | None = None  # webcams only: what to ask the camera for
    height: Annotated[int, Field(gt=0)] | None = None
    fps: Annotated[float, Field(gt=0)] | None = (
        None  # webcams; of a raw video file; how often to ask for single pictures
    )

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, value: Any) -> Any:
        """A source may be written as its address: `sources: [0, clip.mp4]`."""
        return {"uri": value} if isinstance(value, str | int) and not isinstance(value, bool) else value

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
    """Overrides of the event thresholds for one label."""

    enter: Probability | None = None
    enter_s: Seconds | None = None
    leave: Probability | None = None
    leave_s: Seconds | None = None
    min_s: Seconds | None = None
    max_s: PositiveSeconds | None = None
    refractory_s: Seconds | None = None


class EventConfig(Section):
    """How probabilities become events. All in time, never in counts of frames."""

    preset: Literal["gesture", "activity"] = "gesture"  # sets the defaults of the values below
    smoothing_s: Seconds = 0.3  # time constant of the exponential average
    enter: Probability = 0.6
    enter_s: Seconds = 0.15
    leave: Probability = 0.35
    leave_s: Seconds = 0.3
    switch_lead: Probability = 0.1  # another label ends the event when it leads by this for enter_s
    min_s: Seconds = 0.2
    merge_gap_s: Seconds = 0.3
    max_s: PositiveSeconds = 30.0
    refractory_s: Seconds = 0.5
    background: Annotated[tuple[str, ...], ONE_OR_MORE] = ()  # labels that never make an event
    labels: dict[str, LabelRule] = {}
    inhibit: dict[
        str, Annotated[tuple[str, ...], ONE_OR_MORE]
    ] = {}  # after this label's end, these stay silent for refractory_s (return strokes)


class CurveConfig(Section):
    """Encryption, and who may connect; `streamer keygen` makes the files."""

    secret_key_file: Path  # of this run: NAME.key_secret
    authorized_keys_dir: Path  # NAME.key of each client; all others get nothing


class PublishConfig(Section):
    """The label stream."""

    switches = frozenset({"address"})

    address: str | None = "tcp://127.0.0.1:5557"  # null: publish nothing
    ipc_access: Access = "user"  # who may connect to an ipc:// address; they must get into its folder, too
    curve: CurveConfig | None = None  # null: plain text for everybody who reaches the address
    scores: bool = True  # publish a `score` message at every evaluation
    topk: Annotated[int, Field(ge=1)] = 5


class ViewConfig(Section):
    """The page in the browser."""

    switches = frozenset({"address"})

    address: str | None = None  # HOST:PORT; null: no page
    token: Secret | None = None  # what viewers must bring; better set by STREAMER_VIEW__TOKEN than on a command line


class EngineConfig(Section):
    """How the model runs."""

    threads: Annotated[int, Field(ge=1)] | None = (
        None  # CPU threads of the engine; null: the runtime's choice, leaving room for capture
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = (
        "auto"  # auto: the fastest with a certificate (docs/engines.md)
    )


class Config(Section):
    """Everything that `streamer run` obeys."""

    switches = frozenset({"control", "duration_s", "frozen_s", "max_age_ms", "metrics"})

    sources: Annotated[tuple[SourceConfig, ...], ONE_OR_MORE] = ()
    model: str = "default"  # a shipped or installed name, or a model file
    backend: Literal["auto", "openvino", "tensorrt", "eager", "scripted"] = "auto"
    max_gap: Annotated[float, Field(gt=1)] = (
        3.0  # sample periods without a frame after which the temporal state starts anew
    )
    buffer: Annotated[int, Field(ge=1)] = 8  # network-size frames that wait per stream before the oldest is dropped
    batch_wait_ms: Annotated[float, Field(ge=0)] = 3.0  # how long a step waits for frames of other streams that are due
    max_age_ms: Annotated[float, Field(gt=0)] | None = 250.0  # older frames are dropped, not inferred; null: no limit
    frozen_s: PositiveSeconds | None = (
        10.0  # a camera with the very same picture for so long, in key frames too, is stalled
    )
    capture: Capture = "thread"  # process: each source in a process of its own, so that a decoder's crash ends no run
    duration_s: PositiveSeconds | None = None  # stop after this time; null: run until stopped
    metrics: str | None = None  # HOST:PORT for /metrics (Prometheus) and /healthz, such as 127.0.0.1:9464; null: off
    engine: EngineConfig = EngineConfig()
    events: EventConfig = EventConfig()
    publish: PublishConfig = PublishConfig()
    control: str | None = "auto"  # where `streamer ctl` sends commands; auto: a socket for this user only; null: none
    control_curve: CurveConfig | None = None  # who may send commands: keys of their own; tcp:// addresses need it
    view: ViewConfig = ViewConfig()
