"""`presence` answers with the users in a topic."""

from typing import Any

from msgspec import Raw

from ..presence import Member
from ..protocol.commands import DEFAULT_PRESENCE, Presence
from ..protocol.errors import BadRequest
from ..protocol.messages import PresenceOk
from ..realtime.presence import TopicPresence
from .actor import Actor
from .service import Service


async def presence(service: Service, actor: Actor, command: Presence) -> PresenceOk:
    """Read a page of the users in a topic.

    Raises:
        BadRequest: the topic's namespace has no presence.
        RateLimited: the user has read too many bytes.
        Unavailable: the broker cannot be reached.
    """
    return await read_page(
        service, actor, command.topic, after=command.after or "", limit=command.limit
    )


def presence_in(service: Service, topic: str) -> TopicPresence:
    """Return the presence of all topics, for a topic whose namespace has presence.

    Raises:
        BadRequest: the topic's namespace has no presence.
    """
    found = service.node.presence_in(topic)
    if found is None:
        raise BadRequest("presence: is switched off in the namespace of this topic", topic=topic)
    return found


async def read_page(
    service: Service,
    actor: Actor,
    topic: str,
    *,
    after: str = "",
    limit: int = DEFAULT_PRESENCE,
    own: bool = False,
) -> PresenceOk:
    """Read a page: as many users as fit into `limits.slow_buffer_bytes`, and at least one.

    Args:
        service: the worker's service.
        actor: the reading actor.
        topic: the topic.
        after: the user before the page; empty for the first page.
        limit: maximum number of users.
        own: True to wait until the page includes the actor, who has just joined.

    Raises:
        BadRequest: the topic's namespace has no presence.
        RateLimited: the user has read too many bytes.
        Unavailable: the broker cannot be reached.
    """
    topic_presence = presence_in(service, topic)
    # As for `history`: otherwise the answers to all waiting commands would pile up.
    await actor.ready()
    node = service.node
    turn = node.read_rates.begin(actor.user)
    max_bytes = node.settings.limits.slow_buffer_bytes
    if own:
        await topic_presence.written(topic, actor.user)
    async with turn as reading:
        page = await topic_presence.page(topic, after=after, limit=limit, max_bytes=max_bytes)
        reading.charge(page.size)
    users: list[Any] = [_present(member) for member in page.members]
    return PresenceOk(
        topic=topic,
        count=page.count,
        connections=page.connections,
        users=users,
        more=page.more,
    )


def _present(member: Member) -> Raw:
    return Raw(b'%b,"connections":%d}' % (member.profile[:-1], member.connections))
