"""Workers are killed while they publish what an application commits: nothing is lost or doubled."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from chat_server.client import connect
from chat_server.outbox import Outbox
from chat_server.settings import DatabaseSettings
from tests.rig.redis_server import RedisServer, running
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until_async

SHOP = """
import os

from quart import Quart
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from chat_server import ChatServer, Outbox, load_settings

app = Quart(__name__)
chat = ChatServer(load_settings())
chat.init_app(app)
engine = create_async_engine(os.environ["SHOP_URL"])
chat.relay(Outbox(MetaData(), lease_seconds=1.5), engine)
app.after_serving(engine.dispose)
"""

TOPICS = ("order:1", "order:2", "order:3")
ROWS = 200


async def test_sigkill_in_the_middle(empty_database: DatabaseSettings, tmp_path: Path) -> None:
    """One of two servers is killed, then the other, while a third process commits."""
    await asyncio.to_thread((tmp_path / "shop.py").write_text, SHOP, "utf-8")
    engine = create_async_engine(empty_database.url)
    outbox = Outbox(MetaData())
    async with engine.begin() as connection:
        await connection.run_sync(outbox.tables.rows.metadata.create_all)
    try:
        with running(RedisServer(tmp_path)) as redis:
            environ = {"SHOP_URL": empty_database.url, "CHAT_REDIS__URL": redis.url}
            servers = [
                ServerProcess("--app", "shop:app", environ=environ, folder=tmp_path)
                for _ in range(2)
            ]
            async with in_thread(servers[0]), in_thread(servers[1]):
                committed = await kill_while_orders_come(servers, engine, outbox)
                published = await history(servers[0])
    finally:
        await engine.dispose()
    assert published == committed


@asynccontextmanager
async def in_thread(server: ServerProcess) -> AsyncIterator[None]:
    """Enter and leave a server without blocking."""
    await asyncio.to_thread(server.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(server.__exit__, *sys.exc_info())


async def kill_while_orders_come(
    servers: list[ServerProcess], engine: AsyncEngine, outbox: Outbox
) -> dict[str, list[int]]:
    """Return what was committed, by topic, once none of it waits any more."""
    committed: dict[str, list[int]] = {topic: [] for topic in TOPICS}
    writer = asyncio.create_task(write(engine, outbox, committed))
    chance = random.Random(7)

    async def is_published(rows: int) -> bool:
        return sum(map(len, committed.values())) - await waiting(engine, outbox) >= rows

    for number, server in enumerate(servers):
        await until_async(partial(is_published, 100 + 200 * number))
        await asyncio.sleep(chance.random() * 0.05)  # anywhere in a batch
        await asyncio.to_thread(server.kill)
        if number == 0:
            await until_async(partial(is_published, 200))
            await asyncio.to_thread(server.start)
    await writer
    await until_async(partial(is_published, sum(map(len, committed.values()))))
    return committed


async def write(engine: AsyncEngine, outbox: Outbox, committed: dict[str, list[int]]) -> None:
    chance = random.Random(3)
    for number in range(len(TOPICS) * ROWS):
        topic = TOPICS[number % len(TOPICS)]
        async with AsyncSession(engine) as session:
            await outbox.publish(session, topic, number)
            if chance.random() < 0.1:
                await session.rollback()
            else:
                await session.commit()
                committed[topic].append(number)
        await asyncio.sleep(0.01)


async def waiting(engine: AsyncEngine, outbox: Outbox) -> int:
    async with engine.connect() as connection:
        query = select(func.count()).select_from(outbox.tables.rows)
        return int((await connection.execute(query)).scalar_one())


async def history(server: ServerProcess) -> dict[str, list[Any]]:
    token = mint("ada", history=["**"])
    async with connect(server.url, token=token) as client:
        pages = {topic: await client.history(topic, limit=300) for topic in TOPICS}
    return {topic: [message.data for message in page.messages] for topic, page in pages.items()}
