"""The client's promises under faults: a real server behind a proxy that cuts and holds."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from chat_server.client import CommandFailed, Gap, Message, Position, connect
from tests.client import chaos
from tests.client.chaos import Record, Site, Told, verify
from tests.rig.proxy import Proxy
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until

SEED = int(os.environ.get("CLIENT_CHAOS_SEED", "1"))


@pytest.fixture
async def server() -> AsyncIterator[ServerProcess]:
    running = ServerProcess(environ=chaos.ENVIRON)
    await asyncio.to_thread(running.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def perform(server: ServerProcess, seed: int, seconds: float) -> Record:
    """Let applications talk under faults, and wait until all has settled."""
    record = Record()
    talk, ready = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
    talk.set()
    async with Proxy(server.port, small_buffers=True) as proxy:
        site = Site(seed, f"http://127.0.0.1:{proxy.port}", record)
        talking = [f"room:p{n}" for n in range(4)] + ["room:s0"]
        quiet = [f"room:q{n}" for n in range(chaos.TOPICS - len(talking))]
        readers = [
            asyncio.create_task(chaos.read(site, "many", talking + quiet, ready[0], slow=False)),
            asyncio.create_task(chaos.read(site, "slow", talking, ready[1], slow=True)),
        ]
        async with asyncio.timeout(chaos.SETTLE_SECONDS):
            await asyncio.gather(*(event.wait() for event in ready))
        writers = [
            *(asyncio.create_task(chaos.publish_each(site, n, seed, talk)) for n in range(4)),
            asyncio.create_task(chaos.publish_stream(site, 0, seed, talk)),
        ]
        faults = await chaos.nemesis(proxy, seed, seconds)
        record.errors["faults"] = faults
        talk.clear()
        for source in site.sources:
            source.calm = True
        async with asyncio.timeout(chaos.SETTLE_SECONDS):
            await asyncio.gather(*writers)
        await finish(server, record, talking + quiet)
        for reader in readers:
            assert not reader.done(), reader
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return record


async def finish(server: ServerProcess, record: Record, topics: list[str]) -> None:
    """Publish a last message to each topic, and wait until all readers have it."""
    async with connect(server.url, token=mint("end")) as chat:
        last = {}
        for topic in topics:
            while topic not in last:
                try:
                    last[topic] = (await chat.publish(topic, {"name": f"end-{topic}"})).seq
                except CommandFailed as error:
                    await _wait(error)
    await until(
        lambda: all(
            record.seen[key] and _place(record.seen[key][-1]) == last[key[1]]
            for key in record.starts
        ),
        chaos.SETTLE_SECONDS,
    )


async def _wait(error: CommandFailed) -> None:
    if error.code != "rate_limited":
        raise error
    await asyncio.sleep((error.retry_in_ms or 0) / 1000)


def _place(event: Message | Gap) -> int:
    return event.seq if isinstance(event, Message) else event.before - 1


async def everything(server: ServerProcess, record: Record) -> dict[str, list[Message]]:
    """Read all that is stored."""
    stored: dict[str, list[Message]] = {}
    async with connect(server.url, token=mint("auditor")) as chat:
        for topic in {topic for _, topic in record.starts}:
            messages = stored[topic] = []
            more = True
            while more:
                after = messages[-1].seq if messages else 0
                try:
                    page = await chat.history(topic, after=after, limit=300)
                except CommandFailed as error:
                    await _wait(error)
                    continue
                messages += page.messages
                more = page.more
    return stored


async def round_of_chaos(server: ServerProcess, seed: int, seconds: float) -> None:
    record = await perform(server, seed, seconds)
    violations = list(verify(record, await everything(server, record)))
    outcomes = Counter(told.outcome for told in record.told)
    assert not violations, f"seed {seed}: {violations[:10]} of {len(violations)}"
    ended = [error for error in record.errors if error.startswith("publish_all: ")]
    # It may end where nobody can know, and by nothing else.
    assert all("OutcomeUnknown" in error for error in ended), ended
    assert outcomes["stored"] > 100, (outcomes, record.errors)
    assert outcomes["not stored"] > 5, (outcomes, record.errors)
    assert outcomes["unknown"] > 0, (outcomes, record.errors)
    print(seed, outcomes, record.errors)


async def test_a_round_of_chaos(server: ServerProcess, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "chat_server.client")  # the applications' own faults
    await round_of_chaos(server, SEED, 20.0)


@pytest.mark.extra
@pytest.mark.parametrize("seed", range(2, 6))
async def test_more_rounds_of_chaos(
    server: ServerProcess, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.CRITICAL, "chat_server.client")
    await round_of_chaos(server, seed, 90.0)


# The verdict itself -----------------------------------------------------------------------------


def stored(*names: str) -> dict[str, list[Message]]:
    return {
        "room:a": [
            Message(topic="room:a", seq=seq, at=1, sender=None, data={"name": name})
            for seq, name in enumerate(names, 1)
        ]
    }


@pytest.mark.parametrize(
    ("told", "names", "words"),
    [
        ([Told("room:a", "x", "stored", 1)], ("y",), "x was said to be stored at 1, and is at []"),
        ([Told("room:a", "x", "stored", 1)], ("x", "x"), "x was stored 2 times: [1, 2]"),
        ([Told("room:a", "x", "not stored")], ("x",), "x was said not to be stored"),
        ([], ("x",), "x was stored, and nobody heard of it"),
        (
            [Told("room:a", "y", "stored", 2), Told("room:a", "x", "stored", 1)],
            ("x", "y"),
            "x was stored at 1, before the one before it",
        ),
    ],
)
def test_the_verdict_on_publishers(told: list[Told], names: tuple[str, ...], words: str) -> None:
    assert any(words in line for line in verify(Record(told=told), stored(*names)))


@pytest.mark.parametrize(
    ("seqs", "words"),
    [
        ((1, 3), "3 came after 1"),
        ((1, 2, 2), "2 came after 2"),
        ((2, 1), "2 came after 0"),
        ((1, 2), "stands at 2, not 3"),
        ((1, 2, 3), ""),
    ],
)
def test_the_verdict_on_readers(seqs: tuple[int, ...], words: str) -> None:
    everything = stored("a", "b", "c")
    record = Record(told=[Told("room:a", name, "unknown") for name in "abc"])
    record.starts["reader", "room:a"] = Position("e1", 0)
    record.seen["reader", "room:a"] = [everything["room:a"][seq - 1] for seq in seqs]
    found = list(verify(record, everything))
    assert any(words in line for line in found) if words else found == []
