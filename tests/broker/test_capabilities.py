"""How a capability comes beside the log and the subscriptions: some brokers have it, others not."""

from typing import Protocol, runtime_checkable

from chat_server.broker.memory import MemoryBroker
from chat_server.broker.outbox import Outbox
from chat_server.realtime.ports import Broker
from chat_server.settings import BrokerSettings, Namespace, RedisSettings, Settings

from ..rig.clock import ManualClock
from ..rig.fakes import FakeBroker
from .helpers import Recorder, draft


@runtime_checkable
class Presence(Protocol):
    """A capability as a later version may add it."""

    async def enter(self, topic: str, user: str) -> None:
        """Note that a user is in a topic."""

    async def present(self, topic: str) -> list[str]:
        """Return the users in a topic."""


class PresentMemoryBroker(MemoryBroker):
    """The memory broker with that capability; nothing of `Broker` is written again."""

    def __init__(self) -> None:
        super().__init__(BrokerSettings(), ManualClock())
        self._users: dict[str, list[str]] = {}

    async def enter(self, topic: str, user: str) -> None:
        self._users.setdefault(topic, []).append(user)

    async def present(self, topic: str) -> list[str]:
        return self._users.get(topic, [])


def presence_of(broker: Broker) -> Presence | None:
    """Return the capability as a feature asks for it."""
    return broker if isinstance(broker, Presence) else None


async def test_a_broker_may_have_more_than_the_contract() -> None:
    able: Broker = PresentMemoryBroker()
    presence = presence_of(able)
    assert presence is not None
    await presence.enter("room:a", "ada")
    assert await presence.present("room:a") == ["ada"]


def test_the_others_need_not_know_of_it() -> None:
    plain: Broker = MemoryBroker(BrokerSettings(), ManualClock())
    assert presence_of(plain) is presence_of(FakeBroker()) is None


async def test_an_outbox_in_front_of_the_log_hides_nothing() -> None:
    settings = Settings(
        redis=RedisSettings(url="redis://127.0.0.1"),
        namespaces={"room": Namespace(spool_messages=1)},
    )
    broker = PresentMemoryBroker()
    outbox = Outbox(broker, settings)
    outbox.start()
    await broker.start(Recorder())
    assert (await outbox.publish(draft())).seq == 1
    assert presence_of(broker) is broker
    outbox.stop()
    await broker.stop()
