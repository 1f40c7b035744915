"""A server in the test's loop, whose application has hooks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from quart import Quart

from chat_server.extension import ChatServer
from chat_server.settings import with_flags
from tests.server.inprocess import Served, make_settings, serving

GRANTS: dict[str, Any] = {name: ["**"] for name in ("subscribe", "publish", "history", "presence")}
"""What the users of these tests may do."""

SETTINGS = make_settings(namespaces__default__presence=True)


def chat_server(**flags: object) -> ChatServer:
    """Return a server to add hooks to; it is served by `served`."""
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return ChatServer(with_flags(SETTINGS, dotted))


@asynccontextmanager
async def served(chat: ChatServer) -> AsyncIterator[Served]:
    """Serve an application that embeds this server."""

    def embed() -> Quart:
        app = Quart("hooked", static_folder=None)
        chat.init_app(app)
        return app

    app = await asyncio.to_thread(embed)
    async with serving(chat.settings, app=app) as running:
        yield running


@pytest.fixture
def told() -> "asyncio.Queue[Any]":
    """What hooks of a test put here."""
    return asyncio.Queue()
