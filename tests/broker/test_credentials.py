"""What the Redis broker does with a password, and with a user who may do little."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.redis_server import RedisServer
from .acl import rules
from .helpers import TOPIC, Run, draft
from .test_outages import assert_away

Start = Callable[..., Any]


@pytest.fixture
def start(own_redis: RedisServer, run: Run) -> Start:
    """Start brokers."""

    def _start(url: str) -> Any:
        redis = RedisSettings(url=url, timeout_seconds=15.0)
        return run(RedisBroker(redis, BrokerSettings()))

    return _start


class TestCredentials:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Any:
        server = RedisServer(tmp_path, "--requirepass", "right")
        server.start()
        yield server
        server.stop()

    async def test_a_wrong_password_is_told_but_not_shown(
        self, start: Start, guarded: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = f"redis://:wrong-s3cret@127.0.0.1:{guarded.port}/0"
        broker, recorder = await start(url)
        await assert_away(broker)
        assert recorder.losses == 1
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "redis.url" in record.getMessage()
        with pytest.raises(Unavailable) as caught:
            await broker.publish(draft())
        assert "s3cret" not in caplog.text + str(caught.value) + repr(broker)

    async def test_a_missing_password_is_told(
        self, start: Start, guarded: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker, _ = await start(guarded.url)
        await assert_away(broker)
        assert any(record.levelno == logging.ERROR for record in caplog.records)

    async def test_the_right_password_is_let_in(self, start: Start, guarded: RedisServer) -> None:
        broker, _ = await start(f"redis://:right@127.0.0.1:{guarded.port}/3")
        assert (await broker.publish(draft())).seq == 1

    async def test_a_user_who_may_not_subscribe_is_told(
        self, start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_redis.command(
            *("ACL", "SETUSER", "bob", "on", ">pw", "~chat:*", "&other:*", "+@all"),
        )
        url = f"redis://bob:pw@127.0.0.1:{own_redis.port}/0"
        broker, _ = await start(url)
        with pytest.raises(Unavailable):
            await broker.subscribe(TOPIC)
        assert caplog.text.count("ACL: &chat:* is missing") == 1
        assert broker.status == "misconfigured"
        with pytest.raises(Unavailable):
            await broker.publish(draft())

    async def test_a_user_with_just_enough_rights(
        self, start: Start, own_redis: RedisServer
    ) -> None:
        own_redis.command("ACL", "SETUSER", "bob", "on", ">pw", *rules("redis"))
        broker, recorder = await start(f"redis://bob:pw@127.0.0.1:{own_redis.port}/0")
        await broker.subscribe(TOPIC)
        await broker.publish(draft(key="k"))
        await recorder.wait_for(1)
        assert len((await broker.history(TOPIC, limit=1)).events) == 1
        assert (await broker.health()).latency_seconds is not None
