"""Folds changes into their messages, and removes the content of deleted messages.

All functions work on JSON text. The store holds the length of a payload's content, so that no
payload is parsed. The scripts of Redis do the same as `erased` and `tombstone`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ..changes import STREAMING, MessageState
from ..events import Kind

PUBLISHED_STATE = b',"state":"%b","data":' % STREAMING.encode()
"""The end of a message's front, if the message was published as `streaming`."""

ERASED: Mapping[Kind, bytes] = MappingProxyType({Kind.EDITED: b"null}", Kind.APPENDED: b'"}'})
"""Replacements for the content of changes of a deleted message."""


def folded(payload: bytes, content: int, state: MessageState) -> bytes:
    """Return a message in its present state.

    Args:
        payload: the published message.
        content: length of the data and the closing brace at the end of `payload`, in bytes.
        state: the result of the message's changes.
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
    """Return the rest of a message that the event `version` has deleted."""
    return b'%bnull,"deleted":true,"version":%d}' % (_front(payload, content)[0], version)


def erased(kind: Kind, payload: bytes, content: int) -> bytes:
    """Return the rest of an edit or append of a deleted message."""
    return payload[:-content] + ERASED[kind]


def _front(payload: bytes, content: int) -> tuple[bytes, str]:
    """Return a message up to its data and without its state, and the state."""
    front = payload[:-content]
    if front.endswith(PUBLISHED_STATE):
        return front[: -len(PUBLISHED_STATE)] + b',"data":', STREAMING
    return front, ""
