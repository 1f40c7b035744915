"""What a transaction commits is published once and in order; what it rolls back is not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from chat_server import errors
from chat_server.extension import ChatServer
from chat_server.outbox import Outbox
from chat_server.outbox.relay import EngineSessions, Relay
from chat_server.protocol.commands import History
from chat_server.protocol.messages import User
from chat_server.service.actor import Application
from chat_server.settings import DatabaseSettings
from tests.rig.waiting import until, until_async
from tests.server.inprocess import make_settings

SETTINGS = make_settings(limits__max_message_bytes=1_000)


class Shop:
    """An application with orders, and an outbox beside them."""

    def __init__(self, engine: AsyncEngine, **options: Any) -> None:
        self.engine = engine
        self.metadata = MetaData()
        self.orders = Table(
            "orders",
            self.metadata,
            Column("id", Integer, primary_key=True),
            Column("text", Text, nullable=False),
        )
        self.outbox = Outbox(self.metadata, **options)
        self.sessions = EngineSessions(engine)

    async def order(self, topic: str, *texts: str, fail: bool = False) -> None:
        """Store orders and publish them, unless it fails."""
        async with self.sessions.session() as session:
            for text in texts:
                await session.execute(insert(self.orders).values(text=text))
                await self.outbox.publish(session, topic, {"text": text}, sender="shop")
            if fail:
                raise ZeroDivisionError

    async def waiting(self) -> int:
        """Return how many publications wait."""
        async with self.sessions.session() as session:
            query = select(func.count()).select_from(self.outbox.tables.rows)
            return (await session.execute(query)).scalar_one()


@pytest.fixture
async def shop(empty_database: DatabaseSettings) -> AsyncIterator[Shop]:
    engine = create_async_engine(empty_database.url)
    shop = Shop(engine, max_bytes=100_000, lease_seconds=3.0)
    async with engine.begin() as connection:
        await connection.run_sync(shop.metadata.create_all)
    yield shop
    await engine.dispose()


@pytest.fixture
async def chat() -> AsyncIterator[ChatServer]:
    chat = ChatServer(SETTINGS)
    await chat.start()
    yield chat
    await chat.stop()


async def texts(chat: ChatServer, topic: str) -> list[str]:
    """Return the texts of a topic's messages."""
    ok = await chat.service.perform(Application(), History(topic=topic, limit=300))
    messages = [msgspec.json.decode(message) for message in ok.messages]
    return [message["data"]["text"] for message in messages]


async def test_what_is_committed_is_published_in_order(shop: Shop, chat: ChatServer) -> None:
    chat.relay(shop.outbox, shop.engine)
    await shop.order("order:1", "a", "b")
    with pytest.raises(ZeroDivisionError):
        await shop.order("order:1", "never", fail=True)
    await shop.order("order:2", "x")
    await shop.order("order:1", *(str(number) for number in range(250)))
    expected = ["a", "b", *(str(number) for number in range(250))]
    await until_async(lambda: has(chat, "order:1", expected))
    assert await texts(chat, "order:2") == ["x"]
    await until_async(lambda: none_waits(shop))
    async with shop.engine.connect() as connection:
        stored = (await connection.execute(select(func.count()).select_from(shop.orders))).scalar()
    assert stored == 253


async def has(chat: ChatServer, topic: str, expected: list[str]) -> bool:
    found = await texts(chat, topic)
    assert found == expected[: len(found)]
    return found == expected


async def none_waits(shop: Shop) -> bool:
    return await shop.waiting() == 0


async def test_the_servers_own_database(database_settings: DatabaseSettings) -> None:
    settings = make_settings(database__url=database_settings.url)
    chat, outbox = ChatServer(settings), Outbox()
    chat.relay(outbox)
    await chat.start()
    try:
        assert chat.database is not None
        async with chat.database.session() as session:
            await outbox.publish(session, "room:a", {"text": "hi"})
        await until_async(lambda: has(chat, "room:a", ["hi"]))
    finally:
        await chat.stop()
    with pytest.raises(ValueError, match=r"database\.url: is not set"):
        ChatServer(SETTINGS).relay(outbox)


async def test_a_transaction_that_commits_late_is_not_passed_over(
    shop: Shop, chat: ChatServer
) -> None:
    if shop.engine.dialect.name == "sqlite":
        return  # One writes at a time there.
    chat.relay(shop.outbox, shop.engine)
    async with shop.sessions.session() as session:
        await shop.outbox.publish(session, "order:1", {"text": "late"})
        await shop.order("order:1", "early")
        await until_async(lambda: has(chat, "order:1", ["early"]))
    await until_async(lambda: has(chat, "order:1", ["early", "late"]))


async def test_a_relay_that_ends_before_it_has_deleted(
    shop: Shop, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, ended = Relay._record, 0

    async def end(*arguments: Any) -> None:
        nonlocal ended
        ended += 1
        if ended <= 2:
            raise DBAPIError("DELETE", {}, OSError("gone in the middle"))
        await record(*arguments)

    monkeypatch.setattr(Relay, "_record", end)
    await shop.order("order:1", "a", "b", "c")
    chat.relay(shop.outbox, shop.engine)
    await until_async(lambda: none_waits(shop))
    assert ended == 3
    assert await texts(chat, "order:1") == ["a", "b", "c"]


async def test_of_several_relays_one_works_and_another_goes_on(shop: Shop) -> None:
    sent: list[tuple[str, Any]] = []

    def relay(name: str) -> Relay:
        async def publish(topic: str, data: object, *, sender: User | None, key: str) -> None:
            await asyncio.sleep(0)
            sent.append((name, data))

        return Relay(shop.outbox, shop.sessions, publish, name)

    relays = [relay("one"), relay("two")]
    for each in relays:
        each.start()
    await shop.order("order:1", *"abcdef")
    await until_async(lambda: none_waits(shop))
    assert len(sent) == 6
    [first] = {name for name, _ in sent}
    stopped, other = relays if first == "one" else relays[::-1]
    await stopped.stop()
    await shop.order("order:1", "g")
    await until(lambda: len(sent) == 7)
    assert sent[-1][0] != first
    await other.stop()


async def test_what_cannot_be_published_is_parked_with_all_behind_it(
    shop: Shop, chat: ChatServer
) -> None:
    chat.relay(shop.outbox, shop.engine)
    await shop.order("order:1", "a", "x" * 2_000, "b")
    await shop.order("order:2", "other")
    await until_async(lambda: has(chat, "order:2", ["other"]))
    await until_async(lambda: is_parked(shop, 2))
    await shop.order("order:1", "c")
    await until_async(lambda: is_parked(shop, 3))
    assert await texts(chat, "order:1") == ["a"]
    async with shop.sessions.session() as session:
        [parked] = await shop.outbox.parked(session)
        assert parked.topic == "order:1"
        assert parked.error.startswith("data: may have 1000 bytes")
        await shop.outbox.unpark(session, "order:1")
    await until_async(lambda: is_parked(shop, 3))  # it is no better the second time
    async with shop.sessions.session() as session:
        await shop.outbox.unpark(session, "order:1", drop_first=True)
        with pytest.raises(errors.NotFound):
            await shop.outbox.unpark(session, "order:1")
    await until_async(lambda: has(chat, "order:1", ["a", "b", "c"]))
    await until_async(lambda: none_waits(shop))


async def is_parked(shop: Shop, waiting: int) -> bool:
    async with shop.sessions.session() as session:
        parked = await shop.outbox.parked(session)
    return [each.waiting for each in parked] == [waiting]


async def test_a_topic_that_cannot_be_reached_holds_up_no_other(shop: Shop) -> None:
    sent: list[tuple[str, bytes, User | None]] = []
    refusals = 2

    async def publish(topic: str, data: Any, *, sender: User | None, key: str) -> None:
        nonlocal refusals
        if topic == "order:1" and refusals:
            refusals -= 1
            raise errors.Unavailable("its shard is away")
        sent.append((topic, bytes(data), sender))

    relay = Relay(shop.outbox, shop.sessions, publish, "one")
    await shop.order("order:1", "a", "b")
    await shop.order("order:2", "c")
    relay.start()
    await until_async(lambda: none_waits(shop))
    await relay.stop()
    shop_user = User("shop")
    assert sent == [
        ("order:2", b'{"text":"c"}', shop_user),
        ("order:1", b'{"text":"a"}', shop_user),
        ("order:1", b'{"text":"b"}', shop_user),
    ]


async def test_mistakes_are_told_before_anything_is_stored(shop: Shop) -> None:
    async with AsyncSession(shop.engine) as session:
        for topic, data, error in (
            ("no topic", 1, errors.BadRequest),
            ("order:1", object(), errors.BadRequest),
            ("order:1", float("nan"), errors.BadRequest),
            ("order:1", "x" * 200_000, errors.TooLarge),
        ):
            with pytest.raises(error):
                await shop.outbox.publish(session, topic, data)
    assert await shop.waiting() == 0


async def test_an_outbox_without_its_tables_is_told_in_the_log(
    empty_database: DatabaseSettings, chat: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(empty_database.url)
    chat.relay(Outbox(MetaData()), engine)
    await until(lambda: "the outbox cannot be read" in caplog.text)
    await chat.stop()
    await engine.dispose()


def test_two_outboxes_in_one_metadata_are_one() -> None:
    metadata = MetaData()
    assert Outbox(metadata).tables == Outbox(metadata).tables


async def test_many_commits_of_one_session_listen_once(shop: Shop) -> None:
    heard = 0

    def hear() -> None:
        nonlocal heard
        heard += 1

    end = shop.outbox.listen(hear)
    async with AsyncSession(shop.engine) as session:
        for _ in range(3):
            await shop.outbox.publish(session, "order:1", 1)
            await shop.outbox.publish(session, "order:1", 2)
            await session.commit()
    end()
    assert heard == 3
