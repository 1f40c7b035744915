"""The users of docs/stores.md may do what is needed, and nothing that is not."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.diagnosis import COMMANDS, UNPROBED_COMMANDS
from chat_server.events import Position, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings

from ..rig.redis_server import RedisServer, patient, running
from .acl import PAGE, rules
from .helpers import TOPIC, Run, draft, until
from .presence import Lease

FURTHER = re.compile(r"each of these needs `([^`]+)` besides")
"""What docs/stores.md adds for consumers."""


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A server whose only other user is that of the page, also after a restart."""
    user = ("--user", "chat", "on", ">s3cret", *rules("redis"))
    with running(RedisServer(tmp_path, *user)) as server:
        yield server


@pytest.mark.parametrize("database", [0, 3])
async def test_the_user_of_the_page_does_everything(
    guarded: RedisServer, run: Run, caplog: pytest.LogCaptureFixture, database: int
) -> None:
    url = f"redis://chat:s3cret@127.0.0.1:{guarded.port}/{database}"
    redis = patient(url, canary_seconds=0.05)
    broker, recorder = await run(RedisBroker(redis, BrokerSettings()))
    for returns in (0, 1):
        await until(lambda: recorder.returns == returns and broker.status == "ok")  # noqa: B023
        recorder.events.clear()
        await broker.subscribe(TOPIC)
        place = await broker.publish(draft(key="k", retention=Retention(9, 60.0, 300)))
        assert (await broker.publish(draft(key="k"))).duplicate
        for size in (1, 2, 0):
            await broker.publish(draft(retention=Retention(size, 60.0, 300)))
        await broker.publish(draft())
        await broker.signal(TOPIC, b"{}")
        await recorder.wait_for(6)
        for newest in (False, True):
            page = await broker.history(TOPIC, limit=9, newest=newest)
            assert [event.seq for event in page.events] == [5]
        assert (await broker.begin_epoch(TOPIC, place.epoch)).seq == 5
        assert (await broker.history("room:unknown", limit=9)).seq == 0
        await attend(broker, f"worker-{returns}")
        broker.unsubscribe(TOPIC)
        assert (await broker.health()).latency_seconds is not None
        await broker._probe.check()
        if not returns:
            guarded.restart()
    denied = [r for r in caplog.records if "NOPERM" in r.getMessage() or "ACL" in r.getMessage()]
    assert not denied


@pytest.mark.parametrize("allowed", [True, False])
async def test_consumers_need_the_further_commands_of_the_page(
    tmp_path: Path, run: Run, allowed: bool
) -> None:
    further = FURTHER.search(PAGE.read_text("utf-8"))
    assert further is not None
    more = further[1].split() if allowed else []
    user = ("--user", "chat", "on", ">s3cret", *rules("redis"), *more)
    with running(RedisServer(tmp_path, *user)) as server:
        url = f"redis://chat:s3cret@127.0.0.1:{server.port}/0"
        broker, _ = await run(RedisBroker(patient(url), BrokerSettings()))
        followed = Retention(9, 60.0, held_size=9, held_bytes=999)
        place = await broker.publish(draft(retention=followed))
        await broker.feed.release(TOPIC, Position(place.epoch, 1))
        if allowed:
            await broker.feed.share()
            assert await broker.feed.take(9) == [TOPIC]
            assert [list(found) async for found in broker.feed.positions()] == [[TOPIC]]
        else:
            for refused in (broker.feed.share(), broker.feed.take(9)):
                with pytest.raises(Unavailable):
                    await refused
        # What is not allowed costs nobody a publication.
        assert (await broker.publish(draft(retention=followed))).seq == 2
        await broker.stop()


async def attend(broker: RedisBroker, name: str) -> None:
    """Come, go and come again, with a grace and without, and look who is there."""
    for grace in (0.0, 0.001):
        lease = Lease(broker, name, grace=grace)
        await lease.write(ada=1, bob=1)
        await lease.write(bob=0)
        await broker.presence.settle(TOPIC)
        await lease.write(bob=1)
        assert (await broker.presence.page(TOPIC, limit=9)).count == 2
        while await broker.presence.end(TOPIC, name, dead=False):
            pass


@pytest.mark.parametrize("kind", ["redis", "sentinel", "cluster"])
def test_no_command_is_allowed_that_is_not_sent(kind: str) -> None:
    pubsub = ("ssubscribe", "sunsubscribe", "spublish")
    sent = {
        "redis": ("select", "subscribe", "unsubscribe", "publish"),
        "sentinel": ("role", "select", "subscribe", "unsubscribe", "publish"),
        "cluster": ("cluster|slots", *pubsub),
    }[kind]
    everywhere = ("ping", "evalsha", "script|load", *COMMANDS, *UNPROBED_COMMANDS)
    allowed = {rule[1:] for rule in rules(kind) if rule.startswith("+")}
    assert allowed == {*sent, *everywhere}
