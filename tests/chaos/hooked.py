"""A webhook endpoint with outages, and the comparison of its events with acknowledgements."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from ..rig.webhook_receiver import WebhookReceiver, answering
from .archived import NAMESPACE
from .history import Ack
from .payloads import name_of
from .violation import Violation

NAME = "chaos"

PATIENCE_SECONDS = 180.0
"""Seconds: failed deliveries are repeated after growing pauses, and a lease may have to expire
first.
"""

RETRY_SECONDS = 0.25


def environ(receiver: WebhookReceiver) -> dict[str, str]:
    """Return the settings of a server with this endpoint."""
    prefix = f"CHAT_WEBHOOKS__{NAME.upper()}__"
    return {
        f"{prefix}URL": receiver.url,
        f"{prefix}SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        f"{prefix}TOPICS": f"{NAMESPACE}:**",
        f"{prefix}ALLOW_PRIVATE": "true",
    }


async def go_and_come(receiver: WebhookReceiver, seconds: float, *, errors: bool) -> None:
    """Let the endpoint fail for a time, or stop listening."""
    if errors:
        receiver.answer = answering(500)
        try:
            await asyncio.sleep(seconds)
        finally:
            receiver.answer = answering(204)
        return
    await receiver.stop()
    try:
        await asyncio.sleep(seconds)
    finally:
        await receiver.start()


async def missing(receiver: WebhookReceiver, acks: Iterable[Ack]) -> list[Violation]:
    """Return missing and misordered events of the endpoint."""
    wanted = [ack for ack in acks if ack.topic.startswith(f"{NAMESPACE}:") and not ack.duplicate]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        violations = compare(receiver.events, wanted)
        if not any(each.kind == "not sent" for each in violations):
            return violations
        if time.monotonic() > deadline:
            return violations
        await asyncio.sleep(RETRY_SECONDS)


def compare(events: Iterable[dict[str, Any]], acks: Iterable[Ack]) -> list[Violation]:
    """Return missing, different and misordered events.

    Events may come twice: the sender cannot know whether an answer was lost.
    """
    violations: list[Violation] = []
    seen: dict[str, dict[int, str | None]] = {}
    newest: dict[str, int] = {}
    for event in events:
        topic = event["topic"]
        if event["type"] == "gap":
            violations.append(Violation("gap sent", topic, event["after"], "", event["reason"]))
            continue
        seq = event["seq"]
        known = seen.setdefault(topic, {})
        if seq < newest.get(topic, 0) and seq not in known:
            violations.append(Violation("sent out of order", topic, seq, "", ""))
        newest[topic] = max(newest.get(topic, 0), seq)
        shown = event["type"] == "message" and not event.get("deleted")
        known[seq] = name_of(event["data"]) if shown else None
    for ack in acks:
        if ack.seq not in seen.get(ack.topic, {}):
            violations.append(Violation("not sent", ack.topic, ack.seq, "", ack.payload))
            continue
        sent = seen[ack.topic][ack.seq]
        if not ack.target and sent not in (None, ack.payload):
            detail = f"{sent!r}, not {ack.payload!r}"
            violations.append(Violation("sent as another", ack.topic, ack.seq, "", detail))
    return violations
