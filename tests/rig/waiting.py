"""Waiting for conditions in tests."""

import asyncio
from collections.abc import Awaitable, Callable

SECONDS = 90.0
"""How long anything may take: the machine may be busy."""

PATIENCE_SECONDS = 20.0
"""How long a Redis that nobody harms may take for an answer, before a test fails for that."""


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def until_async(condition: Callable[[], Awaitable[object]], seconds: float = SECONDS) -> None:
    """Wait until what `condition` returns, once awaited, holds."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)
