"""A node with a fake broker, and clients that connect to it.

A `World` is one worker without sockets: `connect` adds a client whose transport records what is
sent to it, and a test moves `world.broker` and `world.clock`. `stop` checks that nothing is left.
"""

import asyncio
from typing import Any

import msgspec

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.auth.tokens import Verifier
from chat_server.protocol.codecs import JSON
from chat_server.protocol.errors import ChatError, Unauthorized
from chat_server.realtime.node import Node
from chat_server.realtime.ports import Encoder
from chat_server.service.operations import OPERATIONS
from chat_server.service.service import Service
from chat_server.sessions.connection import Connection
from chat_server.settings import GatewaySettings, LimitSettings, Namespace, Settings

from ..rig.clock import ManualClock
from ..rig.fake_transport import FakeEncoder, FakeTransport
from ..rig.fakes import FakeBroker, Gate, turns

EVERYTHING = TopicGrants(*[("**",)] * 5)


def claims(sub: str = "alice", *, expires_in: float | None = None, **grants: Any) -> Claims:
    """Return a token's content: with grants named only these, without any everything."""
    topics = TopicGrants(**grants) if grants else EVERYTHING
    expires_at = None if expires_in is None else int(ManualClock().time() + expires_in)
    return Claims(sub=sub, topics=topics, expires_at=expires_at)


class FakeVerifier(Verifier):
    """Knows tokens by name; `later` makes it wait for the issuer's keys."""

    def __init__(self) -> None:
        self.tokens: dict[str, Claims | Exception] = {}
        self.later = Gate()

    def verify_now(self, token: str) -> Claims | None:
        return None if self.later.shut else self._look_up(token)

    async def verify(self, token: str) -> Claims:
        await self.later()
        return self._look_up(token)

    def _look_up(self, token: str) -> Claims:
        known = self.tokens.get(token, Unauthorized("token: is not known"))
        if isinstance(known, Exception):
            raise known
        return known


def settings(**changes: Any) -> Settings:
    """Return settings with changed `limits` or `gateway`, by the names of their keys."""
    limits, gateway = LimitSettings(), GatewaySettings()
    for name, value in changes.items():
        if name in LimitSettings.__struct_fields__:
            limits = msgspec.structs.replace(limits, **{name: value})
        else:
            gateway = msgspec.structs.replace(gateway, **{name: value})
    return Settings(
        limits=limits,
        gateway=gateway,
        namespaces={
            "default": Namespace(),
            "brief": Namespace(history_size=0),
            "latest": Namespace(slow_subscribers="latest"),
            "strict": Namespace(slow_subscribers="disconnect"),
        },
    )


class World:
    """One worker.

    Args:
        changes: settings that are not the defaults.
    """

    def __init__(self, **changes: Any) -> None:
        self.clock = ManualClock()
        self.broker = FakeBroker()
        self.verifier = FakeVerifier()
        self.node = Node(settings(**changes), self.broker, self.clock, "here")
        self.service = Service(self.node, self.verifier, OPERATIONS)
        self.encoder = FakeEncoder(JSON)
        self.transports: list[FakeTransport] = []

    async def start(self) -> None:
        await self.node.start()

    async def stop(self) -> None:
        """Lose every client, and check that nothing of them is left."""
        for transport in self.transports:
            transport.lose()
        await turns()
        await self.node.hub.stop()
        assert len(self.node.registry) == 0
        assert self.node.hub.topic_count == self.node.hub.subscription_count == 0
        assert self.broker.subscribed == set()
        assert not self.node.registry._users._members
        assert not self.node.registry._addresses._members

    def connect(
        self,
        who: Claims | None = None,
        *,
        refusal: ChatError | None = None,
        address: str = "10.0.0.1",
        encoder: Encoder | None = None,
        can_ping: bool = True,
        transport: FakeTransport | None = None,
    ) -> FakeTransport:
        """Return the transport of a new connection: without claims it has to send `auth`."""
        if transport is None:
            transport = FakeTransport(encoder or self.encoder)
            transport.can_ping = can_ping
        connection = Connection(self.service, transport, address)
        transport.receiver = connection
        self.transports.append(transport)
        connection.start(who, refusal)
        return transport

    async def subscribed(self, *topics: str, who: Claims | None = None) -> FakeTransport:
        """Return a client that is subscribed to these topics, with what it was sent forgotten."""
        transport = self.connect(who or claims())
        for topic in topics:
            transport.say(type="subscribe", topic=topic, id=1)
            await turns()
        assert [m["type"] for m in transport.messages] == ["welcome", *["ok"] * len(topics)]
        transport.written.clear()
        return transport

    def advance(self, seconds: float) -> None:
        """Move the clock, and let every connection look at it."""
        self.clock.advance(seconds)
        for transport in self.transports:
            if isinstance(transport.receiver, Connection) and not transport.lost:
                transport.receiver.on_timer()


async def answer(transport: FakeTransport, **command: Any) -> dict[str, Any]:
    """Send a command with an id of its own and return its answer."""
    id = 1_000 + len(transport.written)
    transport.say(id=id, **command)
    for _ in range(100):
        found = [message for message in transport.messages if message.get("id") == id]
        if found:
            (message,) = found
            return message
        await asyncio.sleep(0)
    raise AssertionError(f"{command} was not answered")
