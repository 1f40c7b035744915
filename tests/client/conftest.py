"""A fake server, and clients of it that do not wait long between attempts."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chat_server.client import Backoff, Client, connect
from tests.rig.fake_server import FakeServer

Connect = Callable[..., Client]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer) -> Connect:
    def make(**options: Any) -> Client:
        backoff = Backoff(first=0.01, longest=0.05, patient=0.01)
        return connect(server.url, **{"token": "t0ken", "backoff": backoff, **options})

    return make
