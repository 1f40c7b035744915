"""Where the two transports differ for a client; docs/design/transports.md has the same table.

Everything else is the same, and tested to be.
"""

import pytest

TRANSPORTS = ("direct", "asgi", "quart")
"""Under `chat-server serve`; the last is the direct one without the front door."""

EVERYWHERE = (*TRANSPORTS, "hypercorn")
"""Also under Hypercorn as it comes, where there is only the ASGI transport."""

everywhere = pytest.mark.parametrize("transport", EVERYWHERE, indirect=True, scope="module")
"""For modules that run in all three ways."""

DIRECT_ONLY = frozenset(
    {
        # test_spool: with ASGI the connection counts until Redis is back; see the page.
        "test_who_is_gone_is_published_all_the_same",
    }
)
"""Tests that only hold for the direct transport."""

EVERY_TRANSPORT = {
    # What the framing is answered by.
    "test_bad_input": {
        "test_text_that_is_not_utf_8",
        "test_what_breaks_the_framing",
        "test_the_wrong_kind_of_frame",
        "test_a_message_that_is_too_big",
        "test_a_frame_that_claims_more_than_it_may",
        "test_ten_messages_that_are_none",
    },
    # Pieces, closes, handshakes, and what is not read.
    "test_wire": {
        "test_a_conversation_in_pieces",
        "test_everything_and_the_close_in_one_packet",
        "test_what_came_before_the_clients_close_is_done",
        "test_the_clients_close_is_echoed",
        "test_a_client_that_does_not_answer_the_close",
        "test_a_client_that_sends_and_never_reads",
        "test_what_is_no_handshake",
        "test_a_key_that_is_none",
        "test_a_message_far_too_big_ends_with_its_client",
        "test_a_close_frame_behind_a_message_far_too_big_is_seen",
        "test_compression_is_off_unless_switched_on",
    },
    "test_compression": {
        "test_a_compressed_message_in_pieces",
        "test_a_bomb",
        "test_what_cannot_be_inflated",
    },
    "test_echo": {
        "test_echoes_fragments_as_one_message",
        "test_does_not_read_from_who_does_not_read",
    },
    # Clients that read slowly, and heartbeats.
    "test_flow": {
        "test_a_client_that_pauses_gets_everything_or_is_told",
        "test_a_client_that_stops_reading_is_closed_and_nobody_else_feels_it",
        "test_a_client_that_never_reads_again_is_let_go",
        "test_a_client_that_answers_no_ping_is_closed",
    },
    "test_floods": {
        "test_a_crowd_that_answers_no_ping_is_sent_away",
        "test_asking_for_all_history_again_and_again",
    },
    "test_long_replays": {"test_a_long_replay_goes_on_to_its_end"},
    "test_hostile": {"test_connections_that_are_dropped_at_once_leave_nothing"},
    # The transport writes this end.
    "test_tokens": {"test_an_expired_token_is_told_and_then_closed"},
    # Reading stops while Redis is paused, and connections end with a worker.
    "test_faults": {
        "test_a_paused_redis_stops_the_reading_of_who_publishes",
        "test_killed_workers_cost_resuming_clients_nothing",
    },
}
"""Tests whose subject is the transport. The subject of all others is behind the transport: they run
with the direct one here, and with the other ways in `make test-all`. What each transport makes of
commands and answers is in tests/transports/test_conversations.py, for both and in process."""

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
    return CLOSE_CODES[what]["direct" if is_direct(transport) else "asgi"]


def way(transport: str) -> dict[str, str]:
    """Return the variables of the environment that choose one of `TRANSPORTS`."""
    if transport == "quart":
        return {"CHAT_SERVER__FRONT_DOOR": "quart"}
    return {"CHAT_GATEWAY__TRANSPORT": transport}


def is_direct(transport: str) -> bool:
    """Return whether WebSockets are served by the direct transport."""
    return transport in ("direct", "quart")
