"""`streamer watch`: what it says while nothing comes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from streamer.commands.watch import watch
from streamer.config import PublishConfig

from .test_cli import ANY_PORT, SCRIPTED, line_with, start

__all__ = ["start"]


def test_the_address_may_be_left_out_on_both_sides() -> None:
    assert watch.__defaults__
    assert watch.__defaults__[0] == PublishConfig().address


def test_it_says_what_it_waits_for_and_why(start: Callable[..., subprocess.Popen[str]]) -> None:
    waiting = start("watch", "tcp://127.0.0.1:1")
    assert waiting.stderr
    told = waiting.stderr.readline()
    assert told.startswith("waiting for tcp://127.0.0.1:1: nobody listens there; is a run going on")


def test_labels_in_force_are_printed_for_those_who_ask(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("run", "pattern://swipe", *SCRIPTED, *ANY_PORT)
    address = line_with(process, "labels  ").split()[1]
    assert line_with(start("watch", address, "--kind", "state"), "label   ")
    assert line_with(start("watch", address, "--verbose"), "label   ")
