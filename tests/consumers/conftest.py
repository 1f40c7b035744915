"""The stores of the broker's tests, and times that do not keep a test waiting."""

from collections.abc import AsyncIterator

import pytest

from chat_server.consumers import follower, runner

from ..broker.conftest import made_store, redis_cluster, redis_server
from ..broker.helpers import Store

__all__ = ["redis_cluster", "redis_server"]


@pytest.fixture(params=["memory", "redis", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store in turn."""
    async for made in made_store(request):
        yield made


@pytest.fixture(params=["redis", "cluster"])
async def shared_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store that several workers can share."""
    async for made in made_store(request):
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HINT_SECONDS", 0.01)
    monkeypatch.setattr(runner, "LEASE_SECONDS", 0.1)
    monkeypatch.setattr(follower, "BACKOFF_SECONDS", (0.01, 0.05))
