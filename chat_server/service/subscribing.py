"""`auth`, `subscribe` and `unsubscribe`: commands of a live connection."""

from ..protocol.commands import Auth, Subscribe, Unsubscribe
from ..protocol.errors import RateLimited, Unrecoverable
from ..protocol.messages import AuthOk, SubscribeOk, TopicOk
from ..realtime.recovery import Recovery
from .actor import Subscriber
from .answers import Joined, Reply
from .presence import presence_in, read_page
from .service import Service


def auth(service: Service, actor: Subscriber, command: Auth) -> Reply:
    """Verify a token and accept it for the connection.

    Raises:
        Unauthorized: the token is not valid, or belongs to another user.
        ChatError: a hook refuses the connection.
    """
    claims = service.verifier.verify_now(command.token)
    return _verify(service, actor, command.token) if claims is None else actor.admit(claims)


async def _verify(service: Service, actor: Subscriber, token: str) -> AuthOk:
    reply = actor.admit(await service.verifier.verify(token))
    return reply if isinstance(reply, AuthOk) else await reply


def subscribe(service: Service, actor: Subscriber, command: Subscribe) -> Reply:
    """Join a topic: at its position, after an earlier position, or with the newest events.

    Raises:
        BadRequest: `presence` is true, and the namespace has no presence.
        Forbidden: `last` was given, and the token does not grant `history`; or `presence`.
        Unrecoverable: `strict` was given, and the missed events cannot be replayed.
        RateLimited: the user has had too many replays, or there are too many joins.
        Unavailable: the broker cannot be reached.
    """
    if command.last is not None:
        actor.require("history", command.topic)
    if service.node.arrivals.limits_joins:
        try:
            service.node.arrivals.join(actor.user, command.topic, actor.rate_factor)
        except RateLimited as error:
            error.topic = command.topic
            raise
    if command.presence:
        actor.require("presence", command.topic)
        presence_in(service, command.topic)
        return _join_and_watch(service, actor, command)
    if command.since is None and command.last is None:
        recovery = service.node.hub.join_now(actor.transport, command.topic)
        if recovery is not None:
            if service.node.presence is not None:
                _attend(service, actor, command)
            return _joined(command.topic, recovery)
    if service.node.presence is None:
        return _join(service, actor, command)
    return _join_and_attend(service, actor, command)


def _attend(service: Service, actor: Subscriber, command: Subscribe) -> None:
    """Count a subscriber as present, if the namespace has presence."""
    presence, topic = service.node.presence_in(command.topic), command.topic
    if presence is not None:
        presence.join(topic, actor.transport, actor.user, actor.sender, watches=command.presence)


async def _join_and_attend(service: Service, actor: Subscriber, command: Subscribe) -> Joined:
    joined = await _join(service, actor, command)
    _attend(service, actor, command)
    return joined


async def _join_and_watch(service: Service, actor: Subscriber, command: Subscribe) -> Joined:
    joined = await _join_and_attend(service, actor, command)
    try:
        joined.ok.presence = await read_page(service, actor, command.topic, own=True)
    except BaseException as error:
        service.node.leave(actor.transport, command.topic)
        if isinstance(error, RateLimited):
            error.topic = command.topic
        raise
    return joined


async def _join(service: Service, actor: Subscriber, command: Subscribe) -> Joined:
    node, topic = service.node, command.topic
    if command.since is None and command.last is None:
        return _joined(topic, await node.hub.join(actor.transport, topic, None, None))
    now = node.clock.monotonic()
    try:
        # Every topic may be resumed at once, but not again and again: a resume costs some 20 ms.
        replays = node.replay_rates.acquire(actor.user, now, what="too many events were replayed")
        turn = node.read_rates.begin(actor.user, now)
    except RateLimited as error:
        error.topic = topic
        raise
    since, last, not_before = command.since, command.last, 0.0
    async with turn as reading:
        if not actor.may("history", topic):
            not_before = node.clock.time() - node.settings.limits.resume_seconds
        recovery = await node.hub.join(actor.transport, topic, since, last, not_before)
        reading.charge(recovery.page.size)
    if command.strict and since is not None and not recovery.recovered:
        node.hub.leave(actor.transport, topic)
        raise _unrecoverable(topic, recovery)
    if since is not None:
        node.numbers.resumes[recovery.reason or "recovered"] += 1
    joined = _joined(topic, recovery)
    replays.charge(joined.ok.replayed)
    return joined


def _joined(topic: str, recovery: Recovery) -> Joined:
    ok = SubscribeOk(
        topic=topic,
        epoch=recovery.position.epoch,
        seq=recovery.position.seq,
        recovered=recovery.recovered,
        replayed=recovery.position.seq - recovery.start.seq,
        reason=recovery.reason,
    )
    return Joined(ok, recovery)


def _unrecoverable(topic: str, recovery: Recovery) -> Unrecoverable:
    reason = recovery.reason or "expired"
    return Unrecoverable(
        f"since: what followed cannot be replayed: {reason}",
        topic=topic,
        reason=reason,
        epoch=recovery.position.epoch,
        seq=recovery.position.seq,
    )


def unsubscribe(service: Service, actor: Subscriber, command: Unsubscribe) -> TopicOk:
    """Leave a topic."""
    service.node.leave(actor.transport, command.topic)
    return TopicOk(topic=command.topic)
