"""A fake server for the programs to talk to."""

from collections.abc import AsyncIterator

import pytest

from tests.rig.fake_server import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake
