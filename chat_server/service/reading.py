"""`read` and `unread`: the read cursors of users, and their unread messages."""

import asyncio
from functools import partial

import msgspec

from .. import cursors
from ..events import Kind
from ..protocol.codecs import JSON
from ..protocol.commands import Read, Unread
from ..protocol.errors import BadRequest, NotFound
from ..protocol.messages import Reader, ReadOk, ReadPush, UnreadIn, UnreadOk
from ..protocol.topics import check_topic
from ..realtime.encoding import encode_push
from ..realtime.ports import Cursors, CursorStore
from .actor import Actor, Subscriber
from .answers import Answer
from .service import Service

ENTRY_BYTES = 200
"""Bytes charged for a topic of `unread` against the user's rate of reads, besides the message."""

READER_BYTES = 24
"""Bytes charged for a reader besides the name."""


def read(service: Service, actor: Actor, command: Read) -> Answer:
    """Move a user's cursor in a topic forward, and notify the user's other subscribers there.

    Raises:
        BadRequest: the topic ends before `seq` (by the future), or the actor has no name.
        NotFound: the topic has begun another epoch, which ends before `seq` (by the future).
        Unavailable: the broker cannot be reached (by the future).
    """
    topic = command.topic
    if not actor.user:
        raise BadRequest("seq: only a user has a cursor", topic=topic)
    shown = _has_receipts(service, topic)
    future = _store(service).move(topic, actor.user, command.seq, command.epoch, shown=shown)
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
    if _has_receipts(service, topic):
        told = node.broker.signal(topic, payload)
    else:
        session = actor.id if isinstance(actor, Subscriber) else ""
        told = node.broker.signal(topic, b"%b %b" % (session.encode(), payload), Kind.READ)
    # The cursor is moved even if the others get no push.
    told.add_done_callback(_forget)


def _forget(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()


async def unread(service: Service, actor: Actor, command: Unread) -> UnreadOk:
    """Read a user's unread state in some topics.

    Raises:
        BadRequest: a topic is not well-formed, or the actor has no name.
        Forbidden: the token does not grant `subscribe` in one of the topics.
        RateLimited: the user has read too many bytes.
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
        asked = topics if command.readers else ()
        shown = {topic for topic in asked if _has_receipts(service, topic)}
        found = await _store(service).unread(topics, actor.user, shown)
        reading.charge(sum(map(_size, found)))
    answers = {
        topic: _unread_in(actor, topic, each) for topic, each in zip(topics, found, strict=True)
    }
    return UnreadOk(topics=answers)


def _size(found: cursors.Unread) -> int:
    last = 0 if found.last is None else len(found.last.payload)
    # Most names are ASCII; an exact sum would not be worth the cost of encoding every name.
    readers = sum(len(reader.user) + READER_BYTES for reader in found.readers or ())
    return ENTRY_BYTES + last + readers


def _has_receipts(service: Service, topic: str) -> bool:
    return service.node.settings.namespace(topic).read_receipts


def _unread_in(actor: Actor, topic: str, found: cursors.Unread) -> UnreadIn:
    last = None
    # The message itself is history, and needs the grant for history.
    if found.last is not None and actor.may("history", topic):
        encoded = encode_push(JSON, found.last)
        last = None if encoded is None else msgspec.Raw(encoded)
    readers = None if found.readers is None else [Reader(*each) for each in found.readers]
    return UnreadIn(
        read=found.cursor,
        seq=found.seq,
        unread=found.count,
        more=found.more,
        last=last,  # type: ignore[arg-type]
        readers=readers,
    )


async def forget_cursors(service: Service, user: str) -> None:
    """Delete a user's read cursors in all topics.

    Raises:
        Unavailable: the broker cannot be reached; another call deletes the rest.
    """
    broker = service.node.broker
    if isinstance(broker, Cursors):
        await broker.cursors.forget(user)


def _store(service: Service) -> CursorStore:
    """Return the store of cursors.

    Raises:
        BadRequest: the broker keeps no cursors.
    """
    broker = service.node.broker
    if not isinstance(broker, Cursors):
        raise BadRequest("this server keeps no cursors")
    return broker.cursors
