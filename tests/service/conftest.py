"""A service with a fake broker for each test."""

import pytest

from chat_server.logs import LogThrottle
from chat_server.realtime import encoding

from ..realtime.world import World


@pytest.fixture(autouse=True)
def _all_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first line of a kind."""
    monkeypatch.setattr(encoding, "throttle", LogThrottle())


@pytest.fixture
def world() -> World:
    return World()
