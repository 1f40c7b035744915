"""`history` answers with stored messages; also returns the position of a topic."""

import asyncio
from typing import Any

import msgspec

from ..events import HistoryPage, Kind
from ..protocol.codecs import Codec
from ..protocol.commands import History
from ..protocol.messages import HistoryOk, PositionOk
from ..realtime.encoding import encode_push
from .actor import Actor
from .service import Service

YIELD_BYTES = 16_384
"""Bytes of messages that are encoded before other tasks get a turn."""


async def history(service: Service, actor: Actor, command: History) -> HistoryOk:
    """Read stored messages, ascending: the newest, or those before or after a seq.

    An answer has as many messages as fit into `limits.slow_buffer_bytes`, and at least one.

    Raises:
        RateLimited: the user has read too many bytes.
        Unavailable: the broker cannot be reached.
    """
    # Otherwise the answers to all waiting commands would pile up, megabytes each.
    await actor.ready()
    node = service.node
    topic, after = command.topic, command.after
    max_bytes = node.settings.limits.slow_buffer_bytes
    async with node.read_rates.begin(actor.user) as reading:
        page = await node.log.history(
            topic,
            after=after or 0,
            before=command.before,
            limit=command.limit,
            newest=after is None,
            max_bytes=max_bytes,
            folded=True,
        )
        reading.charge(page.size)
    messages, all_fit = await _encode(page, actor.codec, max_bytes, newest=after is None)
    return HistoryOk(
        topic=topic, epoch=page.epoch, messages=messages, more=page.more or not all_fit
    )


async def position(service: Service, actor: Actor, topic: str) -> PositionOk:
    """Read the last seq of a topic to which the actor may subscribe.

    Raises:
        ChatError: a hook refuses.
        Unavailable: the broker cannot be reached.
    """
    await service.admit(actor, topic, "position")
    page = await service.node.broker.history(topic, limit=0)
    return PositionOk(topic=topic, epoch=page.epoch, seq=page.seq)


async def _encode(
    page: HistoryPage, codec: Codec, max_bytes: int, *, newest: bool
) -> tuple[list[Any], bool]:
    """Return a page's encoded messages, as many as fit, and whether all of them fit."""
    events = [event for event in page.events if event.kind is Kind.MESSAGE]
    kept: list[msgspec.Raw] = []
    size = held = 0
    all_fit = True
    for event in reversed(events) if newest else events:
        encoded = encode_push(codec, event)
        if encoded is None:
            continue
        size += len(encoded)
        if kept and size > max_bytes:
            all_fit = False
            break
        kept.append(msgspec.Raw(encoded))
        held += len(event.payload)
        if held >= YIELD_BYTES:
            held = 0
            await asyncio.sleep(0)
    return (kept[::-1] if newest else kept), all_fit
