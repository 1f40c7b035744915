"""`auth`, `subscribe` and `unsubscribe`: commands of a live connection."""

from ..protocol.errors import RateLimited
from ..protocol.messages import Auth, AuthOk, Subscribe, SubscribeOk, TopicOk, Unsubscribe
from ..realtime.recovery import Recovery
from .actor import Subscriber
from .answers import Joined, Reply
from .service import Service


def auth(service: Service, actor: Subscriber, command: Auth) -> Reply:
    """Check a token and go on with it.

    Raises:
        Unauthorized: the token is not valid, or another user's.
    """
    claims = service.verifier.verify_now(command.token)
    return _verify(service, actor, command.token) if claims is None else actor.accept(claims)


async def _verify(service: Service, actor: Subscriber, token: str) -> AuthOk:
    return actor.accept(await service.verifier.verify(token))


def subscribe(service: Service, actor: Subscriber, command: Subscribe) -> Reply:
    """Join a topic: from here on, behind a position, or with the newest events.

    Raises:
        Forbidden: `last` was given, and the token does not grant `history`.
        RateLimited: the user has been replayed too much.
        Unavailable: the broker cannot be reached.
    """
    if command.last is not None:
        actor.require("history", command.topic)
    if command.since is None and command.last is None:
        recovery = service.node.hub.join_now(actor.transport, command.topic)
        if recovery is not None:
            return _joined(command.topic, recovery)
    return _join(service, actor, command)


async def _join(service: Service, actor: Subscriber, command: Subscribe) -> Joined:
    node, topic = service.node, command.topic
    since, last = command.since, command.last
    resumes = since is not None or last is not None
    if resumes:
        await _limit_replays(service, actor, topic)
    not_before = 0.0
    if not actor.may("history", topic):
        not_before = node.clock.time() - node.settings.limits.resume_seconds
    recovery = await node.hub.join(actor.transport, topic, since, last, not_before)
    if resumes:
        now = node.clock.monotonic()
        node.replays.charge(actor.user, now, recovery.replayed)
        node.reads.charge(actor.user, now, recovery.page.size)
    return _joined(topic, recovery)


async def _limit_replays(service: Service, actor: Subscriber, topic: str) -> None:
    """Let every topic be resumed at once, but not again and again: each costs some 20 ms."""
    node = service.node
    now = node.clock.monotonic()
    try:
        node.replays.acquire(actor.user, now, what="too many events were replayed")
        await node.reads.begin(actor.user, now)
    except RateLimited as error:
        error.topic = topic
        raise


def _joined(topic: str, recovery: Recovery) -> Joined:
    ok = SubscribeOk(
        topic=topic,
        epoch=recovery.position.epoch,
        seq=recovery.position.seq,
        recovered=recovery.recovered,
        replayed=recovery.replayed,
        reason=recovery.reason,
    )
    return Joined(ok, recovery)


def unsubscribe(service: Service, actor: Subscriber, command: Unsubscribe) -> TopicOk:
    """Leave a topic."""
    service.node.hub.leave(actor.transport, command.topic)
    return TopicOk(topic=command.topic)
