"""Waiting for conditions in tests."""

import asyncio
from collections.abc import Awaitable, Callable

SECONDS = 90.0
"""Seconds that any step may take on a busy machine."""

PATIENCE_SECONDS = 20.0
"""Seconds that an undisturbed Redis may take for an answer before a test fails."""


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def until_async(condition: Callable[[], Awaitable[object]], seconds: float = SECONDS) -> None:
    """Wait until the awaited result of `condition` is true."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)
