"""Several workers of one server, told apart by the names they give themselves."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.rig.chat_client import Chat
from tests.rig.raw_client import Answer, RawClient, request
from tests.rig.server import ServerProcess
from tests.rig.waiting import SECONDS
from tests.server.processes import connect_to

from .room import token


async def health(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """Return what each of the two workers says of itself, by its name."""
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + SECONDS
    while len(found) < 2:
        assert time.monotonic() < deadline, f"only {set(found)} answer"
        try:
            answer = (await request(server.port, "GET", "/health")).json()
        except (OSError, AssertionError):
            await asyncio.sleep(0.05)
        else:
            found[answer["node"]] = answer
    return found


async def until_health(server: ServerProcess, status: str) -> None:
    """Wait until both workers have a status; that of the whole is the first that is not ok."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(OSError, AssertionError):
                answer = (await request(server.port, "GET", "/health")).json()
                if [worker["status"] for worker in answer["workers"]] == [status] * 2:
                    return
            await asyncio.sleep(0.05)


async def one_on_each(server: ServerProcess, sub: str = "ada") -> list[Chat]:
    """Return a client of each of the two workers."""
    pids = [int(name.rsplit("-", 2)[1]) for name in await health(server)]
    return [await connect_to(server.ws_url, pid, token(sub)) for pid in pids]


class KeptAlive:
    """HTTP requests on one connection, hence to one worker."""

    def __init__(self, wire: RawClient) -> None:
        self._wire = wire

    async def ask(self, method: str, path: str, value: object = None) -> Answer:
        """Make a request with a token for everything."""
        body = b"" if value is None else json.dumps(value).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token()}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        await self._wire.send(head.encode(), body)
        return await self._wire.read_answer()

    async def publish(self, topic: str, data: object, key: str | None = None) -> Answer:
        """Publish a message."""
        publication = {"data": data} if key is None else {"data": data, "key": key}
        return await self.ask("POST", f"/api/topics/{topic}/messages", publication)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, reading nothing meanwhile."""
    async with asyncio.timeout(SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)
