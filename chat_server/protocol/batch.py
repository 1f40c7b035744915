"""Many publications in one request, and their results (docs/protocol.md, section 7)."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from .errors import ChatError
from .messages import PublishOk

BATCH_PATH = "/api/messages"
MAX_BATCH = 1_000
BATCH_MESSAGES = 16
"""Maximum size of a batch's body, in units of `limits.max_message_bytes`."""


class Batch(Struct):
    """The body of a batch; each message is decoded by itself, so that one can fail alone."""

    messages: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_BATCH)]


class ItemError(Struct, omit_defaults=True):
    """The error of a message of a batch that was not stored.

    Args:
        code: the error code, for programs.
        message: the fault, for the client's developer.
        topic: the topic concerned, if known.
        retry_in_ms: milliseconds after which to try again; None if a retry makes no sense.
    """

    code: str
    message: str
    topic: str | None = None
    retry_in_ms: int | None = None


class ItemResult(Struct, omit_defaults=True):
    """The place of a message of a batch, or an `error` alone.

    Args:
        topic: the topic.
        seq: the message's place in the topic's order.
        epoch: the topic's epoch.
        at: milliseconds since 1970.
        duplicate: true if the message repeats a `key` and was stored before.
        error: why the message was not stored.
    """

    topic: str | None = None
    seq: int | None = None
    epoch: str | None = None
    at: int | None = None
    duplicate: bool | None = None
    error: ItemError | None = None


class BatchOk(Struct):
    """One result for each message of a batch, in the order of the messages."""

    results: list[ItemResult]


def stored(ok: PublishOk) -> ItemResult:
    """Return the result of a stored message."""
    return ItemResult(ok.topic, ok.seq, ok.epoch, ok.at, ok.duplicate)


def failed(error: ChatError) -> ItemResult:
    """Return the result of a message that was not stored."""
    told = ItemError(error.code, error.message, error.topic, error.retry_in_ms)
    return ItemResult(error=told)
