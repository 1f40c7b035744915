"""An operator that sends orders by HTTP, through the same faults as all clients."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any

from ..rig.raw_client import request
from .system import System

ORDER_SECONDS = 10.0


class Orders:
    """The orders of a run.

    Args:
        system: the server.
        late: seconds after which a frozen or disconnected worker has executed unconfirmed orders,
            and an attempt without an answer has been executed.

    Attributes:
        given: number of confirmed orders, confirmed by all workers or by some.
    """

    def __init__(self, system: System, late: float) -> None:
        self.late = late
        self._port = system.front.port
        self._token = system.mint("operator", "admin")
        self.given: Counter[str] = Counter()

    async def give(self, verb: str, **fields: Any) -> dict[str, Any] | None:
        """Send an order once; return the answer, or None without a confirmed success."""
        headers = {"Authorization": f"Bearer {self._token}"}
        body = json.dumps({**fields, "reason": "chaos"}).encode()
        with suppress(OSError, TimeoutError, ValueError, AssertionError):
            async with asyncio.timeout(ORDER_SECONDS):
                answer = await request(
                    self._port, "POST", f"/api/admin/{verb}", headers=headers, body=body
                )
            if answer.status == 200:
                self.given[verb] += 1
                taken: dict[str, Any] = answer.json()
                return taken
        return None

    async def insist(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Send an order until success, and until no earlier attempt can undo later orders."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if (taken := await self.give(verb, **fields)) is not None:
                return taken
            await asyncio.sleep(began + self.late - loop.time())
