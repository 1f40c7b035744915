"""A world for each test, and the check that nothing of it is left."""

from collections.abc import AsyncIterator

import pytest

from ..realtime.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.stop()
