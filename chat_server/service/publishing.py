"""`publish` and `signal`: the operations that hand publications to the broker."""

import json
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import UNSET

from ..events import Kind, PublishResult
from ..protocol.codecs import JSON, readable
from ..protocol.commands import Command, Publish, Signal
from ..protocol.errors import BadRequest
from ..protocol.messages import PublishOk, TopicOk
from .actor import Actor
from .answers import Answer
from .drafts import message_draft, signal_payload
from .service import Service

C = TypeVar("C", bound=Command)


def publish(service: Service, actor: Actor, command: Publish) -> Answer:
    """Store a message and send it to every subscriber on every worker.

    Raises:
        TooLarge: `data` has more than `limits.max_message_bytes` of JSON.
        RateLimited: a rate of the topic is exceeded (by the future).
        Unavailable: the broker cannot be reached (also by the future).
    """
    topic, data = command.topic, bytes(command.data)
    service.check_size(topic, data)
    key = actor.scoped(command.key)
    draft = message_draft(
        topic,
        actor.sender,
        data,
        service.retention(topic),
        key,
        state=command.state,
        charges=service.charges(actor, topic, Kind.MESSAGE, len(data)),
    )
    return Answer(service.node.publisher.publish(draft), partial(_stored, topic))


def _stored(topic: str, at: PublishResult) -> PublishOk:
    return PublishOk(topic=topic, seq=at.seq, epoch=at.epoch, at=at.at, duplicate=at.duplicate)


def signal(service: Service, actor: Actor, command: Signal) -> Answer:
    """Send a topic's present subscribers a message that is not stored.

    Raises:
        TooLarge: `data` has more than `limits.max_message_bytes` of JSON.
        Unavailable: the broker cannot be reached (also by the future).
    """
    topic, data = command.topic, bytes(command.data)
    service.check_size(topic, data)
    at = int(service.node.clock.time() * 1000)
    payload = signal_payload(topic, actor.sender, data, at)
    return Answer(service.node.broker.signal(topic, payload), partial(_sent, topic))


def _sent(topic: str, _: None) -> TopicOk:
    return TopicOk(topic=topic)


def command_of(kind: type[C], topic: str, data: object = UNSET, **fields: object) -> C:
    """Return a command made of a program's Python values.

    Args:
        kind: the command.
        topic: the topic.
        data: anything that msgspec can write as JSON, for a command that has `data`.
        fields: the command's other fields.

    Raises:
        BadRequest: `data` has no JSON form that every client can read, or a field breaks a rule.
    """
    given: dict[str, object] = {"topic": topic, **fields}
    if data is not UNSET:
        given["data"] = msgspec.Raw(json_of(topic, data))
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(readable(error), topic=topic) from None


def json_of(topic: str | None, data: object) -> bytes:
    """Return the JSON text of a program's value.

    Raises:
        BadRequest: the value has no JSON text that every client can read.
    """
    try:
        text = msgspec.json.encode(data)
        if b"null" in text:
            # msgspec writes NaN and infinity as null.
            json.dumps(msgspec.to_builtins(data), allow_nan=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"data: cannot be written as JSON: {error}", topic=topic) from None
    return JSON.json_data(text)
