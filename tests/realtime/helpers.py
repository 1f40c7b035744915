"""What tests of the hub share."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from chat_server.events import Position
from chat_server.realtime.hub import Hub
from chat_server.realtime.recovery import Recovery

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker

ROOM = "room:a"
MAX_REPLAY = 300


def start(work: Coroutine[Any, Any, Recovery]) -> "asyncio.Task[Recovery]":
    return asyncio.get_running_loop().create_task(work)


async def subscribe(
    hub: Hub,
    transport: FakeTransport,
    name: str = ROOM,
    since: Position | None = None,
    last: int | None = None,
) -> Recovery:
    recovery = await hub.join(transport, name, since, last)
    if hub.enter(transport, name, recovery):
        await hub.replay(transport, [name])
    return recovery


def seqs(transport: FakeTransport) -> list[int]:
    return [message["seq"] for message in transport.of_type("message")]


def nothing_is_left(hub: Hub, broker: FakeBroker) -> bool:
    left = (hub.topic_count, hub.subscription_count, broker.subscribed, hub._openings)
    return left == (0, 0, set(), {})
