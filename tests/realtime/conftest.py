"""A hub for each test, and the check that nothing of it is left."""

from collections.abc import AsyncIterator

import pytest

from chat_server.logs import LogThrottle
from chat_server.realtime import encoding as encoding_module
from chat_server.realtime import hub as hub_module
from chat_server.realtime.hub import Hub

from ..rig.fakes import FakeBroker
from .helpers import MAX_REPLAY


@pytest.fixture(autouse=True)
def _all_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first line of a kind."""
    monkeypatch.setattr(encoding_module, "throttle", LogThrottle())


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def hub(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.001)
    hub = Hub(broker, MAX_REPLAY)
    await broker.start(hub)
    yield hub
    await hub.stop()
