"""`publish_many`: in batches by HTTP, each message once, whatever the server or network does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chat_server.client import (
    Client,
    ClientClosed,
    CommandFailed,
    NewMessage,
    OutcomeUnknown,
    Published,
    TimedOut,
    connect,
)
from chat_server.client.codec import Encoding
from chat_server.protocol import commands
from tests.client.conftest import Connect
from tests.rig.fake_server import FakeServer
from tests.rig.fakes import FakeBroker
from tests.rig.lossy_proxy import LossyProxy
from tests.rig.server import ServerProcess, mint
from tests.server.inprocess import make_settings, serving

FAST = {
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "10000",
}


@pytest.fixture(scope="module")
def real() -> Iterator[ServerProcess]:
    with ServerProcess(environ=FAST) as running:
        yield running


def numbered(topic: str, count: int, start: int = 0) -> list[NewMessage]:
    return [NewMessage(topic, {"n": n}) for n in range(start, start + count)]


async def stored(chat: Client, topic: str) -> list[Any]:
    found: list[Any] = []
    seq = 0
    while True:
        page = await chat.history(topic, after=seq, limit=300)
        found += [message.data for message in page.messages]
        if not page.more:
            return found
        seq = page.messages[-1].seq


@pytest.fixture
async def proxy(real: ServerProcess) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(real.port) as running:
        yield running


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_many_in_their_order(proxy: LossyProxy, encoding: Encoding) -> None:
    topic, other = f"room:many-{encoding}", f"room:other-{encoding}"
    async with connect(proxy.url, token=mint("ann"), encoding=encoding) as chat:
        messages = numbered(topic, 1_500)
        messages[700] = NewMessage(other, "elsewhere")
        places = await chat.publish_many(messages)
        assert all(isinstance(place, Published) for place in places)
        seqs = [place.seq for place in places if isinstance(place, Published)]
        assert seqs == [*range(1, 701), 1, *range(701, 1_500)]
        assert await stored(chat, topic) == [{"n": n} for n in range(1_500) if n != 700]
        assert proxy.posts == 2
        assert await chat.publish_many([]) == []


async def test_a_refusal_is_that_messages_outcome(real: ServerProcess) -> None:
    async with connect(real.url, token=mint("ann", publish=["room:*"], history=["**"])) as chat:
        topic = "room:refusals"
        found = await chat.publish_many(
            [
                NewMessage(topic, 1),
                NewMessage("secret", 2),
                NewMessage(topic, "x" * 65_536),
                NewMessage("no topic", 3),
                NewMessage(topic, 4, key="k"),
                NewMessage(topic, 5, key="k"),
            ]
        )
        codes = [each.code if isinstance(each, CommandFailed) else None for each in found]
        assert codes == [None, "forbidden", "too_large", "bad_request", None, None]
        assert isinstance(found[5], Published)
        assert (found[5].seq, found[5].duplicate) == (2, True)
        assert await stored(chat, topic) == [1, 4]
        # Alone it goes over the WebSocket, and the outcome is the same.
        [alone] = await chat.publish_many([NewMessage("secret", 2)])
        assert isinstance(alone, CommandFailed)
        assert alone.code == "forbidden"


async def test_data_without_json_is_refused_before_anything_is_sent(real: ServerProcess) -> None:
    async with connect(real.url, token=mint("ann")) as chat:
        with pytest.raises(ValueError, match=r"data\.a: nan has no form"):
            await chat.publish_many(
                [NewMessage("room:nan", 1), NewMessage("room:nan", {"a": float("nan")})]
            )
        assert await stored(chat, "room:nan") == []


async def test_lost_requests_and_answers_lose_nothing_and_double_nothing(
    proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.client.batches.EXCHANGE_RETRY_MS", 1)
    monkeypatch.setattr("chat_server.client.batches.MAX_FAILURES", 100)
    topic = "room:lossy"
    async with connect(proxy.url, token=mint("ann")) as chat:
        proxy.before = proxy.after = 0.2
        for start in range(0, 1_000, 50):
            places = await chat.publish_many(numbered(topic, 50, start))
            seqs = [place.seq for place in places if isinstance(place, Published)]
            assert seqs == list(range(start + 1, start + 51))
        assert await stored(chat, topic) == [{"n": n} for n in range(1_000)]
    assert proxy.posts > 20


async def test_what_the_server_may_have_forgotten_is_looked_for(
    proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = "room:forgotten"
    async with connect(proxy.url, token=mint("ann")) as chat:
        await chat.publish(topic, "before")
        monkeypatch.setattr("chat_server.client.delivery.SAFE_SHARE", 0.0)
        proxy.after = 1.0
        places = await chat.publish_many(numbered(topic, 20))
        assert [place.seq for place in places if isinstance(place, Published)] == list(range(2, 22))
        assert await stored(chat, topic) == ["before", *({"n": n} for n in range(20))]
        # Without a position to look from nobody can know.
        found = await chat.publish_many(numbered("room:never-seen", 2))
        assert [type(each) for each in found] == [OutcomeUnknown] * 2


async def test_without_such_an_api_messages_go_over_the_websocket(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake server knows no POST and breaks the connection off."""
    monkeypatch.setattr("chat_server.client.batches.EXCHANGE_RETRY_MS", 1)
    async with client() as chat:
        for start in (0, 20):
            places = await chat.publish_many(numbered("room:a", 20, start))
            seqs = [place.seq for place in places if isinstance(place, Published)]
            assert seqs == list(range(start + 1, start + 21))
    assert [message.data for message in server.topic("room:a").messages] == [
        {"n": n} for n in range(40)
    ]
    keys = [command.key for command in server.received(commands.Publish)]
    assert len(set(keys)) == 40


async def test_the_rate_limit_is_kept_also_beside_others_of_the_user() -> None:
    flags: dict[str, Any] = {"limits__message_burst": 20, "limits__messages_per_second": 300}
    refusals: list[CommandFailed] = []
    async with serving(make_settings(**flags)) as served:
        token = mint("ann")
        async with connect(served.url, token=token) as one, connect(served.url, token=token) as two:
            runs = await asyncio.gather(
                one.publish_many(numbered("room:one", 150), on_refusal=refusals.append),
                two.publish_many(numbered("room:two", 150), on_refusal=refusals.append),
            )
            for run in runs:
                seqs = [place.seq for place in run if isinstance(place, Published)]
                assert seqs == list(range(1, 151))
        async with connect(served.url, token=mint("reader")) as reader:
            for topic in ("room:one", "room:two"):
                assert await stored(reader, topic) == [{"n": n} for n in range(150)]
    assert {refusal.code for refusal in refusals} <= {"rate_limited"}
    assert refusals, "two clients that each use nine tenths of the rate are refused some"


async def test_a_store_that_is_away_is_waited_for() -> None:
    broker = FakeBroker()
    async with (
        serving(make_settings(), broker=broker) as served,
        connect(served.url, token=mint("ann")) as chat,
    ):
        broker.go_away()
        refusals: list[CommandFailed] = []

        def come_back(error: CommandFailed) -> None:
            refusals.append(error)
            broker.come_back()

        places = await chat.publish_many(numbered("room:a", 30), on_refusal=come_back)
        assert [place.seq for place in places if isinstance(place, Published)] == list(range(1, 31))
        assert [refusal.code for refusal in refusals] == ["unavailable"]


async def test_what_is_not_stored_in_time_is_given_up() -> None:
    broker = FakeBroker()
    broker.publications = []
    async with (
        serving(make_settings(), broker=broker) as served,
        connect(served.url, token=mint("ann")) as chat,
    ):
        # In that time they are sent, also on a slow machine.
        found = await chat.publish_many(numbered("room:a", 3), timeout=1.5)
        assert [type(each) for each in found] == [TimedOut] * 3
        assert all(isinstance(each, TimedOut) and each.maybe_stored for each in found)


async def test_a_client_that_has_ended_says_so_for_each(real: ServerProcess) -> None:
    async with connect(real.url, token=mint("ann")) as chat:
        pass
    found = await chat.publish_many(numbered("room:ended", 2))
    assert [type(each) for each in found] == [ClientClosed] * 2


async def test_a_token_that_has_expired_is_replaced(proxy: LossyProxy) -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return mint("ann")

    async with connect(proxy.url, token=token) as chat:
        assert asked == 1
        await chat.publish_many(numbered("room:tokens", 3))
        assert asked == 1, "the token of the connection is used"
        chat._reconnector._credentials.last = "no.longer.valid"
        found = await chat.publish_many(numbered("room:tokens", 3))
        assert asked == 2
        assert all(isinstance(each, Published) for each in found)
    assert proxy.posts == 3
