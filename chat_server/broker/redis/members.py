"""Decodes the members of a topic's sorted sets, and the fields of its state (scripts/topic.lua)."""

from typing import Any

from ...changes import NAMED_USERS, MessageState, Reacted
from ...events import Event, Kind
from ..folding import folded


def decode_message(topic: str, epoch: str, entry: Any) -> Event:
    """Return a message in its present state.

    Args:
        topic: the topic.
        epoch: the topic's epoch.
        entry: a member; or, for a changed message, a list of the member, its record, its data or
            None, its emoji, and the reactions to each emoji.
    """
    if isinstance(entry, bytes):
        seq, _, kind, _, payload = entry.split(b" ", 4)
        return Event(topic, epoch, int(seq), Kind(kind.decode()), payload)
    member, record, data, emoji, *reactions = entry
    seq, content, kind, _, payload = member.split(b" ", 4)
    version, edited_at, state, *_ = record.split(b" ")
    message_state = MessageState(
        version=int(version),
        edited_at=int(edited_at),
        state="" if state == b"-" else state.decode(),
        data=data,
        reactions=tuple(
            _decode_reacted(each, reacted)
            for each, reacted in zip(emoji.split(b"\n"), reactions, strict=False)
        ),
    )
    payload = folded(payload, int(content), message_state)
    return Event(topic, epoch, int(seq), Kind(kind.decode()), payload)


def _decode_reacted(emoji: bytes, reacted: bytes) -> Reacted:
    count, *lines = reacted.split(b"\n", NAMED_USERS + 1)
    users = (line.rsplit(b" ", 2)[0] for line in lines[:NAMED_USERS] if line)
    return Reacted(emoji.decode(), int(count), tuple(users))
