"""A chat server with webhooks, a store in memory and a real database, and pauses that are short."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from chat_server.consumers import follower, runner
from chat_server.extension import ChatServer
from chat_server.settings import AuthSettings, DatabaseSettings, Namespace, Settings, Webhook
from chat_server.webhooks import backing_off, endpoint

from ..rig.clock import ManualClock

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Serve = Callable[..., Awaitable[ChatServer]]


def webhook(url: str, **settings: Any) -> Webhook:
    given = {"secrets": (SECRET,), "topics": ("room:**",), "allow_private": True, **settings}
    return Webhook(url=url, **given)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the servers and their store. It shows the time, which receivers look at."""
    return ManualClock(wall=float(int(time.time())))


@pytest.fixture
async def serve(database_settings: DatabaseSettings, clock: ManualClock) -> AsyncIterator[Serve]:
    """Starts servers with webhooks over the same database; they are stopped after the test."""
    servers: list[ChatServer] = []

    async def start(
        *, room: Namespace | None = None, stop: ChatServer | None = None, **webhooks: Webhook
    ) -> ChatServer:
        if stop is not None:
            servers.remove(stop)
            await stop.stop()
        settings = Settings(
            auth=AuthSettings(secret="x" * 32),
            database=database_settings,
            namespaces={"default": Namespace(), "room": room or Namespace()},
            webhooks=webhooks,
        )
        server = ChatServer(settings, clock=clock)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HINT_SECONDS", 0.01)
    monkeypatch.setattr(runner, "SWEEP_SECONDS", 0.5)
    monkeypatch.setattr(follower, "BACKOFF_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(backing_off, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(backing_off, "LONGEST_SECONDS", 0.1)
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.05)
