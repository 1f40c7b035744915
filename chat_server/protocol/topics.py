"""Topic names and the namespace they belong to (docs/protocol.md, section 1)."""

import re

from .errors import BadRequest

MAX_TOPIC_BYTES = 255

_SEGMENT = r"[A-Za-z0-9._~@-]+"
_TOPIC = re.compile(rf"{_SEGMENT}(?::{_SEGMENT})*", re.ASCII)


def check_topic(topic: str) -> str:
    """Return `topic` unchanged if it is well-formed.

    Raises:
        BadRequest: the message names the rule that `topic` breaks.
    """
    if not topic:
        raise BadRequest("topic: must not be empty")
    if len(topic) > MAX_TOPIC_BYTES:
        raise BadRequest(f"topic: must be at most {MAX_TOPIC_BYTES} bytes")
    if _TOPIC.fullmatch(topic) is None:
        raise BadRequest("topic: must be segments of A-Z a-z 0-9 . _ ~ @ - joined by ':'")
    return topic


def namespace(topic: str) -> str:
    """Return the first segment of `topic`, which names the namespace that configures it."""
    return topic.partition(":")[0]
