"""`publish` and `signal`: the operations by which whatever is published goes to the broker."""

import json
from functools import partial

import msgspec

from ..events import PublishResult
from ..protocol.codecs import JSON
from ..protocol.commands import MAX_KEY, Publish, Signal
from ..protocol.errors import BadRequest
from ..protocol.messages import PublishOk, TopicOk
from .actor import Actor
from .answers import Answer
from .drafts import message_draft, signal_payload
from .service import Service


def publish(service: Service, actor: Actor, command: Publish) -> Answer:
    """Store a message and send it to every subscriber on every worker.

    Raises:
        TooLarge: `data` has more than `limits.max_message_bytes` of JSON.
        Unavailable: the broker cannot be reached (also by the future).
    """
    topic, data = command.topic, bytes(command.data)
    service.check_size(topic, data)
    key = actor.scoped(command.key)
    draft = message_draft(
        topic, actor.sender, data, service.retention(topic), key, state=command.state
    )
    return Answer(service.node.publisher.publish(draft), partial(_stored, topic))


def _stored(topic: str, at: PublishResult) -> PublishOk:
    return PublishOk(topic=topic, seq=at.seq, epoch=at.epoch, at=at.at, duplicate=at.duplicate)


def signal(service: Service, actor: Actor, command: Signal) -> Answer:
    """Send a topic's present subscribers something that is not stored.

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


def publication(topic: str, data: object, key: str | None) -> Publish:
    """Return the command that publishes a Python value.

    Args:
        topic: the topic.
        data: anything that msgspec can write as JSON.
        key: idempotency key.

    Raises:
        BadRequest: `data` has no JSON form that every client can read, or `key` is too long.
    """
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise BadRequest(f"key: must have 1 to {MAX_KEY} characters", topic=topic)
    try:
        text = msgspec.json.encode(data)
        if b"null" in text:
            # msgspec writes NaN and infinity as null.
            json.dumps(msgspec.to_builtins(data), allow_nan=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"data: cannot be written as JSON: {error}", topic=topic) from None
    return Publish(topic=topic, data=msgspec.Raw(JSON.json_data(text)), key=key)
