"""An operator who gives orders by HTTP, through the same faults as everybody."""

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
        late: seconds within which a worker that was frozen or cut off has done what it did not
            confirm, and a try has been carried out whose answer was lost.

    Attributes:
        given: how many were confirmed, by all workers or by some.
    """

    def __init__(self, system: System, late: float) -> None:
        self.late = late
        self._port = system.front.port
        self._token = system.mint("operator", "admin")
        self.given: Counter[str] = Counter()

    async def give(self, verb: str, **fields: Any) -> dict[str, Any] | None:
        """Give an order once; return the answer, or None if it was not taken, or not for sure."""
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
        """Give an order until it is taken, and no earlier try can undo what follows."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if (taken := await self.give(verb, **fields)) is not None:
                return taken
            await asyncio.sleep(began + self.late - loop.time())
