"""Topic names and their namespaces (docs/protocol.md, section 1)."""

import re
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

from .errors import BadRequest

MAX_TOPIC_BYTES = 255

_SEGMENT = r"[A-Za-z0-9._~@-]+"
_TOPIC = re.compile(rf"{_SEGMENT}(?::{_SEGMENT})*", re.ASCII)

TopicName = Annotated[
    str,
    Meta(extra_json_schema={"pattern": f"^{_TOPIC.pattern}$", "maxLength": MAX_TOPIC_BYTES}),
]
"""A topic, with its pattern for documents only: `check_topic` refuses others, with a reason."""

_UNESCAPED = re.compile(r"[A-Za-z0-9._@-]*", re.ASCII)
_ESCAPED = re.compile(rb"[^A-Za-z0-9._@-]")


def topic_segment(text: str) -> str:
    """Return the one topic segment that stands for `text`, a user for example.

    Each byte of the text's UTF-8 besides `A-Z a-z 0-9 . _ @ -` becomes `~` and two hexadecimal
    digits. So no two texts have the same segment: `auth0|7` is `auth0~7C7`, and `a~b` is `a~7Eb`.
    """
    if _UNESCAPED.fullmatch(text):
        return text
    return _ESCAPED.sub(lambda found: b"~%02X" % ord(found[0]), text.encode()).decode("ascii")


# Every message needs this check, and most topics were named before. Refusals are not cached.
@lru_cache(maxsize=4_096)
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
