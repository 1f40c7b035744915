"""A service with a fake broker for each test."""

from collections.abc import AsyncIterator

import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.logs import LogThrottle
from chat_server.realtime import encoding
from chat_server.realtime.node import Node
from chat_server.service.operations import OPERATIONS
from chat_server.service.service import Service

from ..broker.helpers import Recorder
from ..realtime.world import FakeVerifier, World, settings
from ..rig.clock import ManualClock


@pytest.fixture(autouse=True)
def _all_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first line of a kind."""
    monkeypatch.setattr(encoding, "throttle", LogThrottle())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A service over a memory broker."""
    clock = ManualClock()
    made = settings(max_message_bytes=1_000)
    broker = MemoryBroker(made.broker, clock)
    await broker.start(Recorder())
    yield Service(Node(made, broker, clock, "here"), FakeVerifier(), OPERATIONS)
    await broker.stop()
