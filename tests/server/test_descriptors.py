"""A worker asks for the file descriptors it needs, and keeps some from its connections."""

import logging
import resource

import pytest

from chat_server.server.descriptors import SPARE, raise_limit
from tests.support.wire import request

from .inprocess import make_settings, serving

SETTINGS = make_settings(limits__max_connections=1_000, http__max_connections=100)
NEEDED = 1_100 + SPARE


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "complains"),
    [
        (256, 4_000, NEEDED, False),
        (256, resource.RLIM_INFINITY, NEEDED, False),
        (256, 1_000, 1_000, True),
        (1_000, 1_000, 1_000, True),
        (4_000, 4_000, None, False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, False),
    ],
)
def test_asks_for_what_the_settings_may_need(
    soft: int,
    hard: int,
    raised: int | None,
    complains: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    with caplog.at_level(logging.WARNING):
        first_refused = raise_limit(SETTINGS)
    assert asked == ([] if raised is None else [(raised, hard)])
    if soft != resource.RLIM_INFINITY:
        assert first_refused == (raised or soft) - SPARE
    assert ("limits.max_connections" in caplog.text) is complains
    assert caplog.text.count("\n") == complains


async def test_a_connection_that_would_take_the_last_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chat_server.server.descriptors.raise_limit", lambda _: 3)
    async with serving(SETTINGS) as server:
        answer = await request(server.port, "GET", "/health/live")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
