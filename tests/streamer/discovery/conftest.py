"""ONVIF devices for tests; they end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.streamer.discovery.device import OnvifDevice


@pytest.fixture
def device() -> Iterator[Callable[..., OnvifDevice]]:
    from tests.streamer.discovery.device import OnvifDevice

    devices: list[OnvifDevice] = []

    def start(**options: Any) -> OnvifDevice:
        devices.append(OnvifDevice(**options))
        return devices[-1]

    yield start
    for one in devices:
        one.close()
