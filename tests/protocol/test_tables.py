"""The contract's tables of errors and close codes, written down a second time on purpose.

A code that clients act upon cannot change by an edit in one place.
"""

import pytest

from chat_server.protocol import errors
from chat_server.protocol.close_codes import (
    LONG_BACKOFF,
    MAX_REASON_BYTES,
    STOP,
    CloseCode,
    fit_reason,
)
from chat_server.protocol.errors import (
    ERRORS,
    BadRequest,
    ChatError,
    Malformed,
    Rejected,
    Unavailable,
)

STATUS_OF = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "upgrade_required": 426,
    "gone": 410,
    "not_subscribed": 409,
    "already_subscribed": 409,
    "unrecoverable": 409,
    "too_large": 413,
    "invalid": 422,
    "too_many_topics": 429,
    "rate_limited": 429,
    "unavailable": 503,
    "internal": 500,
}

STOPS, RECONNECTS, WAITS_LONGER = "stop", "reconnect", "reconnect with long backoff"

CLOSE_CODES = {
    1000: STOPS,
    1003: STOPS,
    1007: STOPS,
    1009: STOPS,
    1011: RECONNECTS,
    1012: RECONNECTS,
    1013: WAITS_LONGER,
    4400: STOPS,
    4401: RECONNECTS,
    4403: STOPS,
    4408: RECONNECTS,
    4429: WAITS_LONGER,
    4490: RECONNECTS,
}


def test_errors() -> None:
    assert {error.code: error.status for error in ERRORS} == STATUS_OF
    assert len(ERRORS) == len(STATUS_OF)


def test_every_error_has_its_place_in_the_table() -> None:
    def below(kind: type[ChatError]) -> set[type[ChatError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    # Malformed is a bad_request to clients; the difference is the session's. So is Rejected an
    # unavailable, and the difference the broker's, which has more of them.
    looks_like_another = {kind for kind in below(ChatError) - {*ERRORS} if "code" not in vars(kind)}
    assert {Malformed, Rejected} <= looks_like_another
    assert below(ChatError) - {ChatError} - looks_like_another == set(ERRORS)
    assert (Malformed.code, Malformed.status) == (BadRequest.code, BadRequest.status)
    assert (Rejected.code, Rejected.status) == (Unavailable.code, Unavailable.status)


@pytest.mark.parametrize("kind", ERRORS)
def test_the_tree_in_the_docstring_is_true(kind: type[ChatError]) -> None:
    tree = errors.__doc__ or ""
    (line,) = (
        line for line in tree.splitlines() if line.split("─ ")[-1].split()[0:1] == [kind.__name__]
    )
    assert int(line.split()[-1]) == kind.status
    assert kind.title


def test_an_error_keeps_what_it_is_given() -> None:
    error = BadRequest("topic: must not be empty", id=3, topic="a", retry_in_ms=5)
    assert str(error) == error.message == "topic: must not be empty"
    assert (error.id, error.topic, error.retry_in_ms) == (3, "a", 5)
    bare = BadRequest("no")
    assert (bare.id, bare.topic, bare.retry_in_ms) == (None, None, None)


def test_close_codes() -> None:
    def advice(code: CloseCode) -> str:
        if code in STOP:
            return STOPS
        return WAITS_LONGER if code in LONG_BACKOFF else RECONNECTS

    assert {int(code): advice(code) for code in CloseCode} == CLOSE_CODES
    assert not STOP & LONG_BACKOFF


@pytest.mark.parametrize(
    "reason", ["", "x" * 123, "x" * 124, "é" * 61 + "x", "é" * 62, "x" + "\U0001f600" * 40]
)
def test_reasons_fit_into_a_close_frame(reason: str) -> None:
    fitted = fit_reason(reason)
    size = len(fitted.encode())
    assert reason.startswith(fitted)
    assert size <= MAX_REASON_BYTES
    assert fitted == reason or size > MAX_REASON_BYTES - 4
