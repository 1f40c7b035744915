"""The subscriber against a connection that does exactly what the test says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import (
    BusyLoadingError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    RedisError,
)

from chat_server.broker.common import GuardedListener
from chat_server.broker.redis import subscriber as module
from chat_server.broker.redis.pipeline import pack
from chat_server.broker.redis.refusals import Moved
from chat_server.broker.redis.subscriber import PubSubConnection, signal_message
from chat_server.broker.redis.urls import Address
from chat_server.events import Kind
from chat_server.protocol.errors import Unavailable

from .fakes import ScriptedConnection
from .helpers import Recorder, until

TIMEOUT = 1.5
PONG = [b"pong", b""]


def confirmed(what: str, *topics: str) -> list[Any]:
    return [[what.encode(), f"chat:{topic}".encode(), 1] for topic in topics]


def message(topic: str, seq: int) -> list[bytes]:
    return [b"message", f"chat:{topic}".encode(), b'1 epoch %d message {"a": 1}' % seq]


class Bench:
    def __init__(
        self, limit: int = 100, *, sharded: bool = False, timeout_seconds: float = TIMEOUT
    ) -> None:
        self.evicted: list[str] = []
        self.connections: list[ScriptedConnection] = []
        self.recorder = Recorder()
        self.hang = ""
        self.subscriber = PubSubConnection(
            self._connect,
            lambda topic: f"chat:{topic}",
            timeout_seconds=timeout_seconds,
            limit=limit,
            sharded=sharded,
            on_moved=self.evicted.append,
        )

    @property
    def connection(self) -> ScriptedConnection:
        return self.connections[-1]

    @property
    def written(self) -> bytes:
        return b"".join(self.connection.written)

    def _connect(self) -> ScriptedConnection:
        connection = ScriptedConnection()
        connection.hang(self.hang)
        self.connections.append(connection)
        return connection

    async def end(self) -> Exception:
        """Wait for the end of the connection and return why it ended."""
        with pytest.raises(RedisError) as caught:
            await self.subscriber.wait_closed()
        return caught.value

    def opening(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.subscriber.open(GuardedListener(self.recorder)))

    async def open(self) -> None:
        opening = self.opening()
        await until(lambda: bool(self.connections))
        self.connection.answer(b"PONG")
        await opening
        self.connection.written.clear()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.subscriber.close()
    assert all(connection.closed for connection in made.connections)


async def test_each_confirmation_belongs_to_the_oldest_command(bench: Bench) -> None:
    await bench.open()
    first = bench.subscriber.subscribe("a")
    bench.subscriber.unsubscribe("a")
    second = bench.subscriber.subscribe("a")
    other = bench.subscriber.subscribe("b")
    await until(lambda: bool(bench.written))
    assert bench.written == b"".join(
        pack(*command)
        for command in (
            *(("SUBSCRIBE", "chat:a"), ("UNSUBSCRIBE", "chat:a")),
            *(("SUBSCRIBE", "chat:a"), ("SUBSCRIBE", "chat:b")),
        )
    )
    bench.connection.answer(*confirmed("subscribe", "a"))
    await first
    bench.connection.answer(*confirmed("unsubscribe", "a"))
    await asyncio.sleep(0.01)
    assert not second.done()
    bench.connection.answer(
        *confirmed("subscribe", "a"), message("a", 1), *confirmed("subscribe", "b")
    )
    await asyncio.gather(second, other)
    assert bench.recorder.seqs("a") == [1]


async def test_one_read_is_one_batch(bench: Bench) -> None:
    await bench.open()
    future = bench.subscriber.subscribe("a")
    signal = [b"message", b"chat:a", signal_message(b"{}", Kind.SIGNAL)]
    bench.connection.answer(
        *confirmed("subscribe", "a"), message("a", 1), message("b", 1), signal, message("a", 2)
    )
    await future
    assert bench.recorder.batches == 1
    assert [(event.seq, event.kind) for event in bench.recorder.events] == [
        *((1, Kind.MESSAGE), (0, Kind.SIGNAL), (2, Kind.MESSAGE))
    ]


async def test_every_topic_is_subscribed_again_in_few_commands(bench: Bench) -> None:
    for number in range(1_201):
        with pytest.raises(Unavailable):
            await bench.subscriber.subscribe(str(number))
    bench.subscriber.unsubscribe("7")
    opening = bench.opening()
    await until(lambda: bool(bench.connections) and b"PING" in bench.written)
    assert bench.written.count(b"SUBSCRIBE") == 3
    assert b"chat:7\r\n" not in bench.written
    topics = [str(number) for number in range(1_201) if number != 7]
    bench.connection.answer(*confirmed("subscribe", *topics[:600]))
    await asyncio.sleep(0.01)
    assert not opening.done(), "it is not open until all of them stand"
    bench.connection.answer(*confirmed("subscribe", *topics[600:]), PONG)
    await opening


async def test_subscribing_while_others_are_made_again(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("a")
    opening = bench.opening()
    await until(lambda: bool(bench.connections) and b"PING" in bench.written)
    late = bench.subscriber.subscribe("b")
    bench.connection.answer(*confirmed("subscribe", "a"), PONG)
    await opening
    bench.connection.answer(*confirmed("subscribe", "b"))
    await late


async def test_silence_is_broken_by_a_ping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    await bench.open()
    for _ in range(3):
        await until(lambda: bench.written == pack("PING"))
        bench.connection.written.clear()
        bench.connection.answer(PONG)
    await bench.end()


async def test_a_flood_of_messages_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    timeout = 1.5
    bench = Bench(timeout_seconds=timeout)
    await bench.open()
    future = bench.subscriber.subscribe("a")
    for number in range(8):
        bench.connection.answer(message("a", number))
        await asyncio.sleep(timeout / 5)
    bench.connection.answer(*confirmed("subscribe", "a"))
    await future
    await bench.subscriber.close()


async def test_an_unconfirmed_subscription_ends_the_connection(bench: Bench) -> None:
    await bench.open()
    loop = asyncio.get_running_loop()
    began = loop.time()
    future = bench.subscriber.subscribe("a")
    await asyncio.wait([future])
    assert isinstance(future.exception(), Unavailable)
    assert TIMEOUT * 0.9 < loop.time() - began < module.PING_SECONDS
    await bench.end()


async def test_a_check_finds_a_dead_connection(bench: Bench) -> None:
    await bench.open()
    bench.subscriber.ping()
    await bench.end()


@pytest.mark.parametrize(
    "reply",
    [
        [b"subscribe", b"chat:a", 1],
        [b"unsubscribe", b"chat:a", 0],
        b"PONG",
        NoPermissionError("no"),
    ],
)
async def test_an_answer_to_nothing_ends_the_connection(bench: Bench, reply: Any) -> None:
    await bench.open()
    bench.connection.answer(reply)
    assert isinstance(await bench.end(), InvalidResponse)


async def test_answers_out_of_order_end_the_connection(bench: Bench) -> None:
    await bench.open()
    future = bench.subscriber.subscribe("a")
    bench.connection.answer(*confirmed("unsubscribe", "a"))
    assert isinstance(await bench.end(), InvalidResponse)
    assert isinstance(future.exception(), Unavailable)


async def test_a_refused_subscription_concerns_only_itself(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.open()
    refused, fine = bench.subscriber.subscribe("a"), bench.subscriber.subscribe("b")
    bench.connection.answer(NoPermissionError("no channel for you"), *confirmed("subscribe", "b"))
    await fine
    assert isinstance(refused.exception(), Unavailable)
    assert "no channel for you" in caplog.text


async def test_an_opening_with_a_refused_subscription_fails(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("a")
    opening = bench.opening()
    await until(lambda: bool(bench.connections))
    bench.connection.answer(NoPermissionError("no"), PONG)
    with pytest.raises(NoPermissionError):
        await opening


async def test_a_refused_ping_ends_the_connection(bench: Bench) -> None:
    opening = bench.opening()
    await until(lambda: bool(bench.connections))
    bench.connection.answer(BusyLoadingError("loading"))
    with pytest.raises(BusyLoadingError):
        await opening


async def test_too_many_unconfirmed_subscriptions() -> None:
    bench = Bench(limit=3)
    await bench.open()
    futures = [bench.subscriber.subscribe(name) for name in "abc"]
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("d")
    bench.connection.answer(*confirmed("subscribe", "a", "b", "c"))
    await asyncio.gather(*futures)
    assert b"chat:d" not in bench.written
    await bench.subscriber.close()


@pytest.mark.parametrize("step", ["open", "read"])
async def test_closing_at_any_step(bench: Bench, step: str) -> None:
    bench.hang = step
    opening = bench.opening()
    await until(lambda: bool(bench.connections) and bench.connection.hanging)
    future = bench.subscriber.subscribe("a")
    opening.cancel()
    await asyncio.wait([opening])
    await bench.subscriber.close()
    await asyncio.wait([future])
    assert isinstance(future.exception(), Unavailable)


async def test_a_caller_that_gave_up_does_not_disturb_the_order(bench: Bench) -> None:
    await bench.open()
    first, second = bench.subscriber.subscribe("a"), bench.subscriber.subscribe("b")
    first.cancel()
    bench.connection.answer(*confirmed("subscribe", "a", "b"), message("a", 1))
    await second
    assert bench.recorder.seqs("a") == [1]


class TestSharded:
    @pytest.fixture
    async def shard(self) -> AsyncIterator[Bench]:
        made = Bench(sharded=True)
        yield made
        await made.subscriber.close()

    async def test_it_speaks_of_shards(self, shard: Bench) -> None:
        await shard.open()
        future = shard.subscriber.subscribe("a")
        await until(lambda: bool(shard.written))
        assert shard.written == pack("SSUBSCRIBE", "chat:a")
        event = [b"smessage", *message("a", 1)[1:]]
        shard.connection.answer(*confirmed("ssubscribe", "a"), event)
        await future
        await until(lambda: shard.recorder.seqs("a") == [1])
        shard.subscriber.unsubscribe("a")
        await until(lambda: b"SUNSUBSCRIBE" in shard.written)
        shard.connection.answer(*confirmed("sunsubscribe", "a"))
        working = shard.subscriber.subscribe("b")
        shard.connection.answer(*confirmed("ssubscribe", "b"))
        await working
        assert shard.evicted == []

    async def test_every_channel_has_a_command_of_its_own(self, shard: Bench) -> None:
        for topic in "abc":
            with pytest.raises(Unavailable):
                await shard.subscriber.subscribe(topic)
        opening = shard.opening()
        await until(lambda: bool(shard.connections) and b"PING" in shard.written)
        assert shard.written.count(b"SSUBSCRIBE") == 3, "they may be of different slots"
        moved = MovedError("1 127.0.0.1:7000")
        shard.connection.answer(*confirmed("ssubscribe", "a"), moved, *confirmed("ssubscribe", "c"))
        shard.connection.answer(PONG)
        await opening
        assert shard.evicted == ["b"], "one that is elsewhere is no reason to give up the others"

    async def test_a_channel_whose_slot_has_moved_is_told(self, shard: Bench) -> None:
        await shard.open()
        first = shard.subscriber.subscribe("a")
        shard.connection.answer(*confirmed("ssubscribe", "a"))
        await first
        second = shard.subscriber.subscribe("b")
        shard.connection.answer(*confirmed("sunsubscribe", "a"), *confirmed("ssubscribe", "b"))
        await second
        third = shard.subscriber.subscribe("a")
        shard.connection.answer(MovedError("1 127.0.0.1:7000"))
        with pytest.raises(Moved) as caught:
            await third
        assert caught.value.server == Address("127.0.0.1", 7000)
        assert shard.evicted == ["a", "a"]
        # What nobody subscribes to any more is nobody's business.
        shard.connection.answer(*confirmed("sunsubscribe", "a"))
        fourth = shard.subscriber.subscribe("c")
        shard.connection.answer(*confirmed("ssubscribe", "c"))
        await fourth
        assert shard.evicted == ["a", "a"]

    async def test_when_both_end_it_at_once_the_connection_is_made_anew(self, shard: Bench) -> None:
        await shard.open()
        future = shard.subscriber.subscribe("a")
        shard.connection.answer(*confirmed("ssubscribe", "a"))
        await future
        shard.subscriber.unsubscribe("a")
        # Redis evicts it, and then cannot do what it is asked.
        shard.connection.answer(*confirmed("sunsubscribe", "a"), MovedError("1 127.0.0.1:7000"))
        assert isinstance(await shard.end(), InvalidResponse)
