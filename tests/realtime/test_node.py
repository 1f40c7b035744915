"""The worker as a whole: its limits and its end."""

import msgspec

from chat_server.protocol.messages import Limits
from chat_server.realtime.node import Node
from chat_server.settings import ServerSettings

from ..rig.clock import ManualClock
from ..rig.fakes import FakeBroker
from .clients import FakeClient
from .world import settings


async def test_limits_come_from_the_settings() -> None:
    limits = settings().limits
    node = Node(settings(), FakeBroker(), ManualClock(), "here")
    assert node.limits == Limits(
        max_message_bytes=limits.max_message_bytes,
        max_topics=limits.max_topics,
        max_pending_commands=limits.max_pending_commands,
        messages_per_second=limits.messages_per_second,
        message_burst=limits.message_burst,
        idempotency_seconds=300.0,
    )


async def test_stopping_drains_first_and_lets_go_of_the_broker_last() -> None:
    broker = FakeBroker()
    changed = msgspec.structs.replace(settings(), server=ServerSettings(drain_seconds=0.05))
    node = Node(changed, broker, ManualClock(), "here")
    await node.start()
    client = FakeClient(node.registry, stubborn=True)
    await node.stop()
    assert [call[0] for call in client.calls] == ["close", "abort"]
    assert [call[0] for call in broker.calls] == ["start", "stop"]
