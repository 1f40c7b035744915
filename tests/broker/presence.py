"""What the tests of presence share: a worker's lease, and what the listeners were told."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from chat_server.events import Event, Kind
from chat_server.presence import Attendance, Attended, Member, PresenceChange, PresencePage
from chat_server.realtime.ports import Broker, Presence, PresenceStore

from .helpers import TOPIC, Recorder


def presence_of(broker: Broker) -> PresenceStore:
    """Return the capability as the node asks for it."""
    assert isinstance(broker, Presence)
    return broker.presence


def profile(user: str, **more: object) -> bytes:
    return msgspec.json.encode({"user": user, **more})


class Lease:
    """A worker in a topic, as one that loses no answer writes."""

    def __init__(self, broker: Broker, name: str, topic: str = TOPIC, grace: float = 0.0) -> None:
        self.store = presence_of(broker)
        self.name = name
        self.topic = topic
        self.grace = grace
        self.number = self.confirmed = 0

    async def write(
        self, many: Mapping[str, int] = {}, /, *, again: bool = False, **users: int
    ) -> Attended:
        """Write how many connections users have."""
        self.number += 1
        attended = await self.attempt(self.number, self.confirmed, {**many, **users}, again=again)
        if attended.known:
            self.confirmed = self.number
        if attended.released:
            self.number = self.confirmed = 0
        return attended

    async def attempt(
        self, number: int, confirmed: int, users: Mapping[str, int], *, again: bool = False
    ) -> Attended:
        """Write with numbers of the caller's."""
        return await self.store.write(
            Attendance(
                topic=self.topic,
                lease=self.name,
                members=tuple(
                    Member(user, connections, profile(user)) for user, connections in users.items()
                ),
                number=number,
                confirmed=confirmed,
                grace_seconds=self.grace,
                again=again,
            )
        )


def changes(recorder: Recorder) -> list[PresenceChange]:
    """Return the changes of presence that a listener was told."""
    payloads = (event.payload for event in recorder.events if event.kind is Kind.PRESENCE)
    return [msgspec.json.decode(payload, type=PresenceChange) for payload in payloads]


def told(recorder: Recorder) -> list[str]:
    """Return who came (`+user`) and went (`-user`), as a listener was told."""
    return [
        sign + json.loads(bytes(raw))["user"]
        for change in changes(recorder)
        for sign, profiles in (("+", change.joined), ("-", change.left))
        for raw in profiles
    ]


def shown(page: PresencePage) -> dict[str, int]:
    """Return the users of a page, in its order, with their connections."""
    return {member.user: member.connections for member in page.members}


def is_presence(event: Event) -> bool:
    return event.kind is Kind.PRESENCE


def decoded(member: Member) -> Any:
    return json.loads(member.profile)
