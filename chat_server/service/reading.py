"""`read` and `unread`: how far a user has read, and what is left."""

import asyncio
from functools import partial

import msgspec

from .. import cursors
from ..events import Kind
from ..protocol.codecs import JSON
from ..protocol.commands import Read, Unread
from ..protocol.errors import BadRequest, NotFound
from ..protocol.messages import ReadOk, ReadPush, UnreadIn, UnreadOk
from ..protocol.topics import check_topic
from ..realtime.encoding import encode_push
from ..realtime.ports import Cursors, CursorStore
from .actor import Actor, Subscriber
from .answers import Answer
from .service import Service

ENTRY_BYTES = 200
"""What a topic of `unread` counts against the bytes that a user may read, besides its message."""


def read(service: Service, actor: Actor, command: Read) -> Answer:
    """Move a user's cursor in a topic forward, and tell the user's other subscribers there.

    Raises:
        BadRequest: the topic is not so far (by the future), or the actor has no name.
        NotFound: the topic has begun anew since, not so far (by the future).
        Unavailable: the broker cannot be reached (by the future).
    """
    topic = command.topic
    if not actor.user:
        raise BadRequest("seq: only a user has a cursor", topic=topic)
    future = _store(service).move(topic, actor.user, command.seq, command.epoch)
    return Answer(future, partial(_read, service, actor, command))


def _read(service: Service, actor: Actor, command: Read, found: cursors.Unread) -> ReadOk:
    topic = command.topic
    if found.begun_anew:
        raise NotFound(
            f"epoch: the topic has begun anew since, without event {command.seq}", topic=topic
        )
    if command.seq > found.seq:
        raise BadRequest(f"seq: the topic has no event behind {found.seq}", topic=topic)
    if found.moved:
        _tell(service, actor, topic, found.cursor)
    return ReadOk(topic=topic, seq=found.cursor, unread=found.count)


def _tell(service: Service, actor: Actor, topic: str, seq: int) -> None:
    node = service.node
    payload = msgspec.json.encode(ReadPush(topic=topic, user=actor.user, seq=seq))
    if node.settings.namespace(topic).read_receipts:
        told = node.broker.signal(topic, payload)
    else:
        session = actor.id if isinstance(actor, Subscriber) else ""
        told = node.broker.signal(topic, b"%b %b" % (session.encode(), payload), Kind.READ)
    # The cursor is moved, whether or not others hear of it.
    told.add_done_callback(_forget)


def _forget(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()


async def unread(service: Service, actor: Actor, command: Unread) -> UnreadOk:
    """Read what a user has not read in some topics.

    Raises:
        BadRequest: a topic is not well-formed, or the actor has no name.
        Forbidden: the token does not grant `subscribe` in one of the topics.
        RateLimited: the user has read too much.
        Unavailable: the broker cannot be reached.
    """
    if not actor.user:
        raise BadRequest("topics: only a user has cursors")
    topics = list(dict.fromkeys(command.topics))
    for topic in topics:
        check_topic(topic)
        actor.require("subscribe", topic)
    for topic in topics:
        await service.admit(actor, topic, "unread")
    await actor.ready()
    async with service.node.read_rates.begin(actor.user) as reading:
        found = await _store(service).unread(topics, actor.user)
        sizes = (len(each.last.payload) for each in found if each.last is not None)
        reading.charge(sum(sizes) + ENTRY_BYTES * len(topics))
    answers = {
        topic: _unread_in(actor, topic, each) for topic, each in zip(topics, found, strict=True)
    }
    return UnreadOk(topics=answers)


def _unread_in(actor: Actor, topic: str, found: cursors.Unread) -> UnreadIn:
    last = None
    # The message itself is history.
    if found.last is not None and actor.may("history", topic):
        encoded = encode_push(JSON, found.last)
        last = None if encoded is None else msgspec.Raw(encoded)
    return UnreadIn(
        read=found.cursor,
        seq=found.seq,
        unread=found.count,
        more=found.more,
        last=last,  # type: ignore[arg-type]
    )


def _store(service: Service) -> CursorStore:
    """Return where cursors are kept.

    Raises:
        BadRequest: the broker keeps none.
    """
    broker = service.node.broker
    if not isinstance(broker, Cursors):
        raise BadRequest("this server keeps no cursors")
    return broker.cursors
