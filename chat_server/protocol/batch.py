"""Many publications in one request, and the answers to them (docs/protocol.md, section 7)."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from .errors import ChatError
from .messages import PublishOk

BATCH_PATH = "/api/messages"
MAX_BATCH = 1_000
BATCH_MESSAGES = 16
"""Longest body of a batch, in units of `limits.max_message_bytes`."""


class Batch(Struct):
    """The body of a batch: messages that are decoded one by one, so that each can fail alone."""

    messages: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_BATCH)]


class ItemError(Struct, omit_defaults=True):
    """Why a message of a batch was not stored.

    Args:
        code: the error code, for programs.
        message: what is wrong, for the client's developer.
        topic: the topic concerned, where it is known.
        retry_in_ms: milliseconds after which another try makes sense, if it does.
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
    """Return the result of a message that was stored."""
    return ItemResult(ok.topic, ok.seq, ok.epoch, ok.at, ok.duplicate)


def failed(error: ChatError) -> ItemResult:
    """Return the result that tells an error."""
    told = ItemError(error.code, error.message, error.topic, error.retry_in_ms)
    return ItemResult(error=told)
