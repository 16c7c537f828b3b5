"""The whole configuration, as typed models. Every knob is here, with its default and its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

StreamName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Access = Literal["user", "group", "everyone"]
"""Who may connect to an ipc:// address: this user only, also the group of the run, or every user of the machine."""
Capture = Literal["thread", "process"]
"""Where a source is read: in this process, or in one of its own, which a decoder may crash or hang."""


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error. Errors hide the input: it may have passwords."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SourceConfig(Section):
    """One source. `uri`: 0, /dev/video0, v4l2:NAME, rtsp://..., http(s)://... (MJPEG), a file, pattern://swipe?fps=30."""

    uri: str = Field(coerce_numbers_to_str=True)
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
    background: tuple[str, ...] = ()  # labels that never make an event
    labels: dict[str, LabelRule] = {}
    inhibit: dict[
        str, tuple[str, ...]
    ] = {}  # after this label's end, these stay silent for refractory_s (return strokes)


class CurveConfig(Section):
    """Encryption, and who may connect; `streamer keygen` makes the files."""

    secret_key_file: Path  # of this run: NAME.key_secret
    authorized_keys_dir: Path  # NAME.key of each client; all others get nothing


class PublishConfig(Section):
    """The label stream."""

    address: str | None = "tcp://127.0.0.1:5557"  # null: publish nothing
    ipc_access: Access = "user"  # who may connect to an ipc:// address; they must get into its folder, too
    curve: CurveConfig | None = None  # null: plain text for everybody who reaches the address
    scores: bool = True  # publish a `score` message at every evaluation
    topk: Annotated[int, Field(ge=1)] = 5


class ViewConfig(Section):
    """The page in the browser."""

    address: str | None = None  # HOST:PORT; null: no page
    token: SecretStr | None = None  # what viewers must bring; better set by STREAMER_VIEW__TOKEN than on a command line


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

    sources: tuple[SourceConfig, ...] = ()
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
