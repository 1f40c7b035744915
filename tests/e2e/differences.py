"""Where the two transports differ for a client; docs/design/transports.md has the same table.

Everything else is the same, and tested to be.
"""

import pytest

TRANSPORTS = ("direct", "asgi")
"""Under `chat-server serve`."""

EVERYWHERE = (*TRANSPORTS, "hypercorn")
"""Also under Hypercorn as it comes, where there is only the ASGI transport."""

everywhere = pytest.mark.parametrize("transport", EVERYWHERE, indirect=True, scope="module")
"""For modules that run in all three ways."""

DIRECT_ONLY = frozenset(
    {
        # test_faults: half a minute; killed workers cost resuming clients nothing by both.
        "test_a_storm_of_resumes_costs_nobody_anything",
        "test_health_names_the_store",
        # test_redis_faults: what the transport sees of each is what it sees of cut connections.
        "test_kicked_subscribers_lose_nothing",
        "test_a_redis_that_is_frozen_for_long_loses_nothing",
        "test_a_restart_with_persistence_keeps_the_order",
        "test_a_store_that_forgets_begins_a_new_epoch",
        "test_a_failover_that_loses_messages_is_told",
        # test_spool: by the other its connection counts until Redis is back; see the page.
        "test_who_is_gone_is_published_all_the_same",
        # test_spool: refusals and the stop are the broker's.
        "test_past_the_bound_it_is_refused_at_once",
        "test_a_stop_does_not_wait_for_redis",
    }
)
"""Tests with Redis that are slow, and whose subject the transport has no part in but for what is
said. Those of failover and of deaf workers take no transport at all, for the same reason."""

CLOSE_CODES: dict[str, dict[str, int]] = {
    "text that is not UTF-8": {"direct": 1007, "asgi": 1006},
    "a frame that breaks RFC 6455": {"direct": 1002, "asgi": 1006},
    "a frame that only claims to be too big": {"direct": 1009, "asgi": 0},
    "a client that answers no ping": {"direct": 4408, "asgi": 0},
}
"""Close codes by what happened; 0 stands for a connection that stays."""

COMPRESSES_UNASKED = ("hypercorn",)
"""Another server may offer compression, whatever our settings say."""

KEEPS_UNREAD = ("hypercorn",)
"""Hypercorn waits for ever to hand on what an application that has ended did not take, and reports
that when it stops."""


def close_code(what: str, transport: str) -> int:
    """Return the code of `CLOSE_CODES` for one of the ways of `EVERYWHERE`."""
    return CLOSE_CODES[what]["direct" if transport == "direct" else "asgi"]
