"""Puts messages together with their changes, and takes the content of deleted ones away.

All of it is done on JSON text: the store holds where the content of a payload begins, so no payload
is parsed. The scripts of Redis do `erased` and `tombstone`, too.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ..changes import STREAMING, MessageState
from ..events import Kind

PUBLISHED_STATE = b',"state":"%b","data":' % STREAMING.encode()
"""The end of the front of a message that was published as one that grows."""

ERASED: Mapping[Kind, bytes] = MappingProxyType({Kind.EDITED: b"null}", Kind.APPENDED: b'"}'})
"""What stands in place of the content of a deleted message's changes."""


def folded(payload: bytes, content: int, state: MessageState) -> bytes:
    """Return a message as it now is.

    Args:
        payload: the message as it was published.
        content: bytes at the end of `payload` that are its data and the closing brace.
        state: what changes have made of it.
    """
    front, streaming = _front(payload, content)
    data = payload[-content:-1] if state.data is None else state.data
    parts = [front, data]
    if label := state.state or streaming:
        parts.append(b',"state":"%b"' % label.encode())
    if state.edited_at:
        parts.append(b',"edited_at":%d' % state.edited_at)
    if state.reactions:
        reactions = (
            b'%b:{"count":%d,"users":[%b]}'
            % (msgspec.json.encode(each.emoji), each.count, b",".join(each.users))
            for each in state.reactions
        )
        parts.append(b',"reactions":{%b}' % b",".join(reactions))
    parts.append(b',"version":%d}' % state.version)
    return b"".join(parts)


def tombstone(payload: bytes, content: int, version: int) -> bytes:
    """Return what is left of a message when the event `version` has deleted it."""
    return b'%bnull,"deleted":true,"version":%d}' % (_front(payload, content)[0], version)


def erased(kind: Kind, payload: bytes, content: int) -> bytes:
    """Return what is left of an edit or append when its message is deleted."""
    return payload[:-content] + ERASED[kind]


def _front(payload: bytes, content: int) -> tuple[bytes, str]:
    """Return a message up to its data, without its state, and that state."""
    front = payload[:-content]
    if front.endswith(PUBLISHED_STATE):
        return front[: -len(PUBLISHED_STATE)] + b',"data":', STREAMING
    return front, ""
