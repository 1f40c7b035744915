"""Classifies error replies: the reason why Redis stores nothing, and the operator's remedy.

Servers word the errors of scripts differently (Redis 6.2 wraps them). So a reply is classified by
any part of its text, not by its beginning.
"""

import re
from typing import Final, NamedTuple

from ...protocol.errors import Rejected, Unavailable
from ..common import BUSY_RETRY_MS
from .urls import Address

RETRY_MS: Final = 1_000
"""`retry_in_ms` while Redis stores nothing."""


class Refusal(NamedTuple):
    """The reason why Redis answers but does not run commands.

    Attributes:
        status: the word of `/health`: `full`, `readonly` or `misconfigured`.
        reason: the text of the log; `PREFIX` stands for `redis.prefix`.
    """

    status: str
    reason: str

    def describe(self, prefix: str) -> str:
        """Return the text of the log for an installation with this `redis.prefix`."""
        return self.reason.replace("PREFIX", prefix)


class Moved(Rejected):
    """Redis has not run a command: another server of the cluster serves the topic, or soon will.

    Attributes:
        server: the other server, if Redis named a server.
    """

    def __init__(self, server: Address | None) -> None:
        super().__init__("the topic is moving between stores", retry_in_ms=BUSY_RETRY_MS)
        self.server = server


class StoreRefuses(Unavailable):
    """Redis refuses, for a reason that holds for every publication.

    A full or read-only Redis has stored nothing: Redis checks both before a script writes. An ACL
    may stop a script in the middle, so after a reply of `misconfigured` the message may be stored.

    Args:
        refusal: the reason.
        sent: False if the publication never left the worker.
    """

    def __init__(self, refusal: Refusal, *, sent: bool = True) -> None:
        text = f"the message store takes no messages at the moment: {refusal.status}"
        if not sent or refusal.status != "misconfigured":
            text += "; nothing was stored"
        super().__init__(text, retry_in_ms=RETRY_MS)
        self.refusal = refusal


FULL: Final = Refusal("full", "Redis is full; raise maxmemory or keep less history")
REPLICA: Final = Refusal("readonly", "this Redis is a read-only replica")
CLUSTER: Final = Refusal("misconfigured", "this is a node of a cluster; use redis+cluster://")
TOO_OLD: Final = Refusal(
    "misconfigured", "this server lacks commands: it needs Redis 6.2 or Valkey"
)
UNNAMED: Final = Refusal("misconfigured", "ACL: a command is missing; see docs/stores.md")
"""The reply does not name the command; `diagnosis.explain` finds the name."""

_KNOWN: Final = (
    (r"\bOOM\b|OutOfMemoryError", FULL),
    (r"\bREADONLY\b|ReadOnlyError", REPLICA),
    (r"\bNOREPLICAS\b", Refusal("readonly", "Redis has too few replicas (min-replicas-to-write)")),
    (r"\bMISCONF\b", Refusal("readonly", "Redis cannot write to its disk")),
    (
        r"unknown command .s(un)?(subscribe|publish)\b",
        Refusal("misconfigured", "a cluster needs Redis 7.0 or later, or Valkey (sharded pub/sub)"),
    ),
    (r"unknown (redis )?command|invalid stream id|non.deterministic commands", TOO_OLD),
    (r"(CrossSlot|Moved|Ask|TryAgain|ClusterDown)Error|non local key", CLUSTER),
    (
        r"permissions? to access (a|one of the) key|can't access at least one of the keys",
        Refusal("misconfigured", "ACL: ~PREFIX:* is missing"),
    ),
    (
        r"permissions? to access (a|one of the) channel",
        Refusal("misconfigured", "ACL: &PREFIX:* is missing"),
    ),
    (r"can't run this command or subcommand|NoPermissionError|ACL failure", UNNAMED),
)
_COMMAND: Final = re.compile(r"permissions? to run the '([\w|-]+)'")


def refusal_of(reply: Exception) -> Refusal | None:
    """Return the reason behind an error reply, or None if the reply concerns one command alone."""
    # redis-py replaces the first word by an exception type.
    text = f"{type(reply).__name__} {reply}"
    if denied := _COMMAND.search(text):
        return Refusal("misconfigured", f"ACL: +{denied[1].lower()} is missing")
    for pattern, refusal in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            return refusal
    return None
