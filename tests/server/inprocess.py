"""The whole server in the test's own loop: an application, a worker, a port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quart import Quart

from chat_server.app import create_app
from chat_server.clock import Clock
from chat_server.extension import ChatServer
from chat_server.realtime.node import Node
from chat_server.realtime.ports import Broker
from chat_server.server.worker import Worker
from chat_server.settings import Settings, load_settings
from tests.rig.waiting import SECONDS


def make_settings(**flags: object) -> Settings:
    """Return the testing settings with some replaced; keys have `__` where settings have a dot."""
    return load_settings(
        environ={"CHAT_ENVIRONMENT": "testing"},
        flags={name.replace("__", "."): value for name, value in flags.items()},
    )


class Served:
    """A running server."""

    def __init__(self, app: Quart, port: int, stop: asyncio.Event, task: asyncio.Task[int]) -> None:
        self.app = app
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}/ws"
        self._stop = stop
        self._task = task

    @property
    def node(self) -> Node:
        """The worker's node."""
        chat: ChatServer = self.app.extensions["chat_server"]
        return chat.node

    def begin_to_stop(self) -> None:
        """Do what a signal does."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait for the end."""
        async with asyncio.timeout(SECONDS):
            await asyncio.shield(self._task)


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    broker: Broker | None = None,
    clock: Clock | None = None,
    app: Quart | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[Served]:
    """Serve until the block ends."""
    app = app or create_app(settings, broker=broker, clock=clock)
    listener = listener or socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop, ready = asyncio.Event(), asyncio.Event()
    worker = await asyncio.to_thread(Worker, app, settings)  # which reads files
    task = asyncio.create_task(worker.serve(listener, stop, ready.set))
    waiter = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    if task.done():
        await task
    served = Served(app, port, stop, task)
    try:
        yield served
    finally:
        served.begin_to_stop()
        await served.stopped()
