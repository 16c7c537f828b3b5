"""`streamer tune` on recordings of which a script says what the model sees."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from engines import EngineError, find_models
from engines.spec import read_spec
from streamer.commands import tune as command
from streamer.commands.tune import tune
from streamer.config import EventConfig, LabelRule
from streamer.errors import ConfigError, SourceError
from streamer.labels.events import suited
from streamer.settings import load_settings

WriteVideo = Callable[..., Path]
LABELS = ("nothing", "wave", "nod")
SECONDS = (0, 1, 0, 2, 0, 1, 0, 1, 0, 0)  # the label that the script plays; the third wave is none
SHARES = (0.9, 0.92, 0.9, 0.82, 0.9, 0.87, 0.9, 0.72, 0.9, 0.9)
TRUTH = "file,label,start_s,end_s\na.mp4,wave,1,2.2\na.mp4,nod,3,4.2\na.mp4,wave,5,6.2\n"
PROMPT = ["events.smoothing_s=0", "events.background=[nothing]"]


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A model that says the same of every recording."""
    scores = []
    for label, share in zip(SECONDS, SHARES, strict=True):
        row = [(1 - share) / 2] * 3
        row[label] = share
        scores += [row] * 10
    path = tmp_path / "mine.scores.json"
    path.write_text(json.dumps({"labels": LABELS, "scores": scores, "frames": 1}))
    return str(path)


@pytest.fixture
def truth(tmp_path: Path, write_video: WriteVideo) -> Path:
    """What happens in a recording of ten seconds at the model's rate."""
    write_video("a.mp4", count=100, pts=list(range(0, 300, 3)))
    path = tmp_path / "truth.csv"
    path.write_text(TRUTH)
    return path


def test_thresholds_are_found_told_drawn_and_obeyed(
    script: str, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, curve = tmp_path / "events.yaml", tmp_path / "curve.svg"
    tune([truth], false_per_hour=0, model=script, out=out, curve=curve, set_=PROMPT)
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search(r"^ +2  0\.75  100% +0\.0  wave$", told.err, re.M)
    assert re.search(r"^ +1  0\.60  100% +0\.0  nod$", told.err, re.M)
    assert "100% found (mean of the labels), 0.0 false events an hour, at most 10" in told.err
    assert "figures are of the recording that was tuned on" in told.err
    assert "0.2 minutes cannot prove 0 an hour: even without a false event in them there may be 10" in told.err
    assert "there is less than a minute in which nothing happens" in told.err
    assert "too few to tell: wave (2), nod (1); 5 times and more say more" in told.err
    events = load_settings(out).config.events
    assert (events.smoothing_s, events.background) == (0, ("nothing",))  # the user's own stay
    assert events.labels["wave"] == LabelRule(enter=0.75, leave=0.35)
    assert events.unknown is None
    drawn = ElementTree.fromstring(curve.read_text())
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "false events an hour" in texts
    assert {"wave", "nod"} <= set(texts)


def test_more_false_events_may_be_wanted_and_the_yaml_is_printed(
    script: str, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune([truth], false_per_hour=400, model=script, set_=[*PROMPT, "events.enter=0.8"])
    printed = capsys.readouterr().out
    assert printed.startswith("# by streamer tune for mine@")
    labels = yaml.safe_load(printed)["events"]["labels"]
    assert labels["wave"]["enter"] == 0.8  # as good as any, and in use
    tune([truth], false_per_hour=400, model=script, set_=[*PROMPT, "events.enter=0.95"])
    assert (
        yaml.safe_load(capsys.readouterr().out)["events"]["labels"]["nod"]["enter"] == 0.8
    )  # the nearest of those that find it


def test_a_recording_in_which_nothing_happens_counts_its_false_events(
    script: str, truth: Path, write_video: WriteVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video("quiet.mp4", count=60, pts=list(range(0, 180, 3)))
    truth.write_text(TRUTH + "quiet.mp4,,,\n")
    tune([truth], false_per_hour=0, model=script, set_=PROMPT)
    told = capsys.readouterr().err
    assert re.search(r"^ +2  0\.9\d? +0% +0\.0  wave$", told, re.M)  # what it says of the quiet recording is as clear
    assert "thresholds from the other recordings, for those left out in turn: " in told


def test_the_clips_of_a_run_are_judged_where_its_event_was(
    script: str, tmp_path: Path, write_video: WriteVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, name in (("wave", "right"), ("juggling", "wrong")):
        folder = tmp_path / "clips" / "answers" / label
        folder.mkdir(parents=True)
        clip = write_video(f"{name}.mp4", count=100, pts=list(range(0, 300, 3)))
        clip = clip.rename(folder / clip.name)
        at_us = 1_000_000 if name == "right" else 7_000_000
        note = {"start_us": 0, "at_us": at_us, "until_us": at_us + 1_200_000}
        clip.with_suffix(".json").write_text(json.dumps(note))
    tune([tmp_path / "clips"], false_per_hour=0, model=script, set_=PROMPT)
    told = capsys.readouterr().err
    assert re.search(r"^ +1  0\.75  100% +0\.0  wave$", told, re.M)
    assert "the clips of a run are of moments at which it told events" in told
    assert "never happens, so that only false events speak: nod" in told


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "file,label,start_s,end_s\na.mp4,wave,1,99\n",
            {},
            r"line 2: a segment ends at 99 s, but .*a\.mp4 is 10\.0 s long",
        ),
        ("file,label,start_s,end_s\na.mp4,,,\n", {}, r"nothing happens in these recordings, so nothing can be found"),
        ("file,label,start_s,end_s\na.mp4,nothing,1,2\n", {}, r"only background labels happen in these recordings"),
        (TRUTH, {"into_model": True}, r"--into-model .*mine\.scores\.json: a script of scores has no sidecar"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    script: str, truth: Path, text: str, options: dict[str, Any], message: str
) -> None:
    truth.write_text(text)
    with pytest.raises(ConfigError, match=message):
        tune([truth], model=script, set_=PROMPT, **options)


def test_files_that_cannot_be_heard_or_written_over_are_told(
    script: str, truth: Path, tmp_path: Path, write_video: WriteVideo
) -> None:
    for out in (truth, tmp_path / "a.mp4", Path(script)):
        before = out.read_bytes()
        with pytest.raises(ConfigError, match="this is the file that is read; give another name"):
            tune([truth], model=script, out=out, set_=PROMPT)
        assert out.read_bytes() == before
    with pytest.raises(ConfigError, match="is named twice; say of each recording once"):
        tune([truth, truth], model=script, set_=PROMPT)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"a\.mp4"):
        tune([truth], model=script, set_=PROMPT)
    slow = tmp_path / "slow.scores.json"
    slow.write_text(json.dumps({"labels": LABELS, "scores": [[1, 0, 0]], "frames": 1000}))
    write_video("a.mp4", count=100, pts=list(range(0, 300, 3)))
    with pytest.raises(ConfigError, match="all of these recordings are too short for an answer of the model"):
        tune([truth], model=str(slow), set_=PROMPT)


# ------------------------------------------------------------------------------------------------------ the sidecar


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    shutil.copy(find_models()["default"], tmp_path / "mine.json")
    return tmp_path / "mine.json"


CHOSEN = EventConfig(unknown=2.5, labels={"shaking": LabelRule(enter=0.8, leave=0.35)})


def test_a_sidecar_takes_what_was_chosen_and_keeps_the_rest(sidecar: Path) -> None:
    before = read_spec(sidecar)
    command.write_into(sidecar, CHOSEN)
    after = read_spec(sidecar)
    assert after.version == before.version
    assert after.events == {**before.events, "unknown": 2.5, "labels": {"shaking": {"enter": 0.8, "leave": 0.35}}}
    assert suited(EventConfig(), after.events, "mine").labels == CHOSEN.labels
    command.write_into(sidecar, CHOSEN.model_copy(update={"unknown": None}))
    assert "unknown" not in read_spec(sidecar).events


def test_a_shipped_model_stays_as_it_is_and_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    before = find_models()["default"].read_bytes()
    assert command.find_sidecar(load_settings(options={"model": "default"}).config) is None
    assert (
        "default is shipped with this program and stays as it is; the thresholds come as YAML"
        in capsys.readouterr().err
    )
    assert find_models()["default"].read_bytes() == before


def test_a_sidecar_that_cannot_be_obeyed_or_written_is_told(sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(sidecar.with_suffix(".onnx"))
    assert command.find_sidecar(load_settings(options={"model": model}).config) == sidecar
    with pytest.raises(ConfigError, match=r"sets events\.enter, which overrules what a sidecar tells"):
        command.find_sidecar(load_settings(assignments=["events.enter=0.7"], options={"model": model}).config)
    with pytest.raises(EngineError, match=r"its sidecar there\.json is missing"):
        command.find_sidecar(load_settings(options={"model": str(sidecar.with_name("there.onnx"))}).config)

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command, "write_spec", fail)
    with pytest.raises(ConfigError, match=r"--into-model .*mine\.json: cannot be written: Permission denied"):
        command.write_into(sidecar, CHOSEN)
