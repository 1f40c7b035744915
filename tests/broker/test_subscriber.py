"""The subscriber against a link that does exactly what the test says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, InvalidResponse, NoPermissionError, RedisError

from chat_server.broker import subscriber as module
from chat_server.broker.base import Reporter
from chat_server.broker.lane import pack
from chat_server.broker.subscriber import Subscriber, signal_payload
from chat_server.protocol.errors import Unavailable
from chat_server.protocol.events import Kind

from .fakes import ScriptedLink
from .helpers import Recorder, until

TIMEOUT = 0.2
PONG = [b"pong", b""]


def confirmed(what: str, *topics: str) -> list[Any]:
    return [[what.encode(), f"chat:{topic}".encode(), 1] for topic in topics]


def message(topic: str, seq: int) -> list[bytes]:
    return [b"message", f"chat:{topic}".encode(), b'1 epoch %d message {"a": 1}' % seq]


class Bench:
    def __init__(self, limit: int = 100) -> None:
        self.links: list[ScriptedLink] = []
        self.recorder = Recorder()
        self.hang = ""
        self.subscriber = Subscriber(
            self._connect, lambda topic: f"chat:{topic}", timeout_seconds=TIMEOUT, limit=limit
        )

    @property
    def link(self) -> ScriptedLink:
        return self.links[-1]

    @property
    def written(self) -> bytes:
        return b"".join(self.link.written)

    def _connect(self) -> ScriptedLink:
        link = ScriptedLink()
        link.hang(self.hang)
        self.links.append(link)
        return link

    async def end(self) -> Exception:
        """Wait for the end of the connection and return why it ended."""
        with pytest.raises(RedisError) as caught:
            await self.subscriber.lost()
        return caught.value

    def opening(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.subscriber.open(Reporter(self.recorder)))

    async def open(self) -> None:
        opening = self.opening()
        await until(lambda: bool(self.links))
        self.link.answer(b"PONG")
        await opening
        self.link.written.clear()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.subscriber.close()
    assert all(link.closed for link in made.links)


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
    bench.link.answer(*confirmed("subscribe", "a"))
    await first
    bench.link.answer(*confirmed("unsubscribe", "a"))
    await asyncio.sleep(0.01)
    assert not second.done()
    bench.link.answer(*confirmed("subscribe", "a"), message("a", 1), *confirmed("subscribe", "b"))
    await asyncio.gather(second, other)
    assert bench.recorder.seqs("a") == [1]


async def test_one_read_is_one_batch(bench: Bench) -> None:
    await bench.open()
    future = bench.subscriber.subscribe("a")
    signal = [b"message", b"chat:a", signal_payload(b"{}")]
    bench.link.answer(
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
    await until(lambda: bool(bench.links) and b"PING" in bench.written)
    assert bench.written.count(b"SUBSCRIBE") == 3
    assert b"chat:7\r\n" not in bench.written
    topics = [str(number) for number in range(1_201) if number != 7]
    bench.link.answer(*confirmed("subscribe", *topics[:600]))
    await asyncio.sleep(0.01)
    assert not opening.done(), "it is not open until all of them stand"
    bench.link.answer(*confirmed("subscribe", *topics[600:]), PONG)
    await opening


async def test_subscribing_while_others_are_made_again(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("a")
    opening = bench.opening()
    await until(lambda: bool(bench.links) and b"PING" in bench.written)
    late = bench.subscriber.subscribe("b")
    bench.link.answer(*confirmed("subscribe", "a"), PONG)
    await opening
    bench.link.answer(*confirmed("subscribe", "b"))
    await late


async def test_silence_is_broken_by_a_ping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    await bench.open()
    for _ in range(3):
        await until(lambda: bench.written == pack("PING"))
        bench.link.written.clear()
        bench.link.answer(PONG)
    await bench.end()


async def test_a_flood_of_messages_is_a_sign_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    await bench.open()
    future = bench.subscriber.subscribe("a")
    for number in range(10):
        bench.link.answer(message("a", number))
        await asyncio.sleep(TIMEOUT / 3)
    bench.link.answer(*confirmed("subscribe", "a"))
    await future


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
    bench.subscriber.check()
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
    bench.link.answer(reply)
    assert isinstance(await bench.end(), InvalidResponse)


async def test_answers_out_of_order_end_the_connection(bench: Bench) -> None:
    await bench.open()
    future = bench.subscriber.subscribe("a")
    bench.link.answer(*confirmed("unsubscribe", "a"))
    assert isinstance(await bench.end(), InvalidResponse)
    assert isinstance(future.exception(), Unavailable)


async def test_a_refused_subscription_concerns_only_itself(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.open()
    refused, fine = bench.subscriber.subscribe("a"), bench.subscriber.subscribe("b")
    bench.link.answer(NoPermissionError("no channel for you"), *confirmed("subscribe", "b"))
    await fine
    assert isinstance(refused.exception(), Unavailable)
    assert "no channel for you" in caplog.text


async def test_an_opening_with_a_refused_subscription_fails(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("a")
    opening = bench.opening()
    await until(lambda: bool(bench.links))
    bench.link.answer(NoPermissionError("no"), PONG)
    with pytest.raises(Unavailable):
        await opening


async def test_a_refused_ping_ends_the_connection(bench: Bench) -> None:
    opening = bench.opening()
    await until(lambda: bool(bench.links))
    bench.link.answer(BusyLoadingError("loading"))
    with pytest.raises(BusyLoadingError):
        await opening


async def test_too_many_unconfirmed_subscriptions() -> None:
    bench = Bench(limit=3)
    await bench.open()
    futures = [bench.subscriber.subscribe(name) for name in "abc"]
    with pytest.raises(Unavailable):
        await bench.subscriber.subscribe("d")
    bench.link.answer(*confirmed("subscribe", "a", "b", "c"))
    await asyncio.gather(*futures)
    assert b"chat:d" not in bench.written
    await bench.subscriber.close()


@pytest.mark.parametrize("step", ["open", "read"])
async def test_closing_at_any_step(bench: Bench, step: str) -> None:
    bench.hang = step
    opening = bench.opening()
    await until(lambda: bool(bench.links) and bench.link.hanging)
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
    bench.link.answer(*confirmed("subscribe", "a", "b"), message("a", 1))
    await second
    assert bench.recorder.seqs("a") == [1]
