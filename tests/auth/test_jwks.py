"""When keys at a URL are fetched, with a real HTTP server."""

import asyncio
from typing import Any

import pytest

from chat_server import __version__
from chat_server.auth import jwks, tokens
from chat_server.auth.jwks import BURST
from chat_server.auth.tokens import Verifier
from chat_server.protocol.errors import Unauthorized, Unavailable

from ..rig.clock import ManualClock
from .helpers import NEW, OLD, made_up, refusal, running, settings, until, wait_told
from .key_server import KEY_OF, NOW, PRIVATE, KeyServer, jwk, serve_keys, sign


@pytest.mark.parametrize("algorithm", KEY_OF)
async def test_every_algorithm(algorithm: str, server: KeyServer, clock: ManualClock) -> None:
    name = KEY_OF[algorithm]
    server.publish(*(jwk(name, kid=name) for name in PRIVATE))
    subject = Verifier(settings(server.url, *KEY_OF), clock)
    token = sign(algorithm, PRIVATE[name], kid=name)
    assert subject.verify_now(token) is None
    assert (await subject.verify(token)).sub == "alice"
    assert subject.verify_now(token) == await subject.verify(token)
    head, payload, _ = token.split(".")
    other = sign(algorithm, PRIVATE[name], {"sub": "bob"}, kid=name).split(".")[2]
    assert "signature" in await refusal(subject, f"{head}.{payload}.{other}")
    assert server.requests == 1


async def test_keys_are_fetched_once_and_again_when_they_rotate(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for _ in range(3):
        await subject.verify(OLD)
    assert server.requests == 1
    server.publish(jwk("RSA2", kid="new"))
    clock.advance(60)
    assert subject.verify_now(NEW) is None
    renewed = sign("RS256", PRIVATE["RSA2"], {"exp": NOW + 600}, kid="new")
    await subject.verify(renewed)
    assert server.requests == 2
    assert "`kid` is unknown" in await refusal(subject, OLD)
    assert server.requests == 3


async def test_made_up_keys_fetch_at_most_once_an_interval(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for number in range(BURST):
        assert "`kid` is unknown" in await refusal(subject, made_up(number))
    assert server.requests == BURST
    # Nothing is known of the next ones, which could be good: they come again.
    for number in range(20):
        assert await wait_told(subject, made_up(100 + number)) == 1000
    assert server.requests == BURST
    clock.advance(9.5)
    assert await wait_told(subject, made_up(200)) == 500
    clock.advance(0.5)
    assert "unknown" in await refusal(subject, made_up(201))
    await wait_told(subject, made_up(202))
    assert server.requests == BURST + 1


async def test_a_made_up_key_does_not_use_up_what_a_new_one_needs(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    assert "unknown" in await refusal(subject, made_up(0))
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    assert (await subject.verify(NEW)).sub == "alice"


async def test_a_new_key_is_found_soon_during_a_flood_of_made_up_ones(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    for number in range(50):
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(made_up(number))
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    assert await wait_told(subject, NEW) == 1000
    for number in range(50, 100):
        await wait_told(subject, made_up(number))
    clock.advance(1)
    for number in range(100, 150):
        await wait_told(subject, made_up(number))
    before = server.requests
    assert (await subject.verify(NEW)).sub == "alice"
    assert server.requests == before + 1


async def test_a_key_that_was_looked_for_in_vain_has_no_part_in_the_reserve(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for _ in range(BURST):
        assert "unknown" in await refusal(subject, made_up(0))
    for _ in range(8):
        clock.advance(1)
        assert await wait_told(subject, made_up(0)) > 1000
    assert server.requests == BURST


async def test_both_allowances_together_bound_the_fetches(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    """Try everything, among it to come back in time with several keys."""
    for second in range(60):
        for number in range(20):
            with pytest.raises((Unauthorized, Unavailable)):
                await subject.verify(made_up(number + second // 3 * 100))
        clock.advance(1)
    assert server.requests <= 2 * (BURST + 60 / 10)


async def test_what_is_remembered_of_made_up_keys_is_bounded(
    server: KeyServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_ASKED", 50)
    subject = Verifier(settings(server.url), clock)
    for number in range(200):
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(made_up(number))
    assert subject._key_set is not None
    assert len(subject._key_set._asked) == 50


async def test_failures_are_limited_as_well(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    server.status = 503
    for _ in range(5):
        assert await wait_told(subject, OLD) == 5000
    assert server.requests == 1
    server.status = 200
    clock.advance(5)
    assert (await subject.verify(OLD)).sub == "alice"
    assert server.requests == 2


async def test_known_keys_outlive_their_issuer_and_new_ones_wait(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    server.status = 500
    clock.advance(60)
    known = sign("RS256", PRIVATE["RSA"], {"exp": NOW + 600}, kid="old")
    for _ in range(2):
        with pytest.raises(Unavailable):  # it may be a new key: who could tell?
            await subject.verify(NEW)
        assert subject.verify_now(known) is not None
    assert server.requests == 2


async def test_many_waiters_share_one_fetch(subject: Verifier, server: KeyServer) -> None:
    server.gate.clear()
    waiters = [asyncio.create_task(subject.verify(OLD)) for _ in range(50)]
    await until(lambda: server.requests)
    assert subject.verify_now(OLD) is None
    server.gate.set()
    assert {claims.sub for claims in await asyncio.gather(*waiters)} == {"alice"}
    assert server.requests == 1


async def test_a_slow_issuer_does_not_block_the_loop(subject: Verifier, server: KeyServer) -> None:
    server.gate.clear()
    waiter = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    turns = 0
    async with asyncio.timeout(40):
        while turns < 1_000:
            await asyncio.sleep(0)
            turns += 1
    assert not waiter.done()
    server.gate.set()
    assert (await waiter).sub == "alice"


async def test_an_issuer_that_never_answers_is_given_up(
    subject: Verifier, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    server.gate.clear()
    with pytest.raises(Unavailable):
        await subject.verify(OLD)
    server.gate.set()


async def test_the_request_says_who_asks_for_what(subject: Verifier, server: KeyServer) -> None:
    await subject.verify(OLD)
    assert server.request_headers["User-Agent"] == f"chat_server/{__version__}"
    assert server.request_headers["Accept"].startswith("application/jwk-set+json, application/json")


async def test_a_fault_of_parsing_is_logged_and_waits(
    subject: Verifier, server: KeyServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*args: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(tokens, "parse_key_set", broken)
    assert await wait_told(subject, OLD) == 5000
    assert "KeyError: 'x'" in caplog.text


async def test_a_cancelled_waiter_leaves_the_fetch_to_the_others(
    subject: Verifier, server: KeyServer
) -> None:
    server.gate.clear()
    first = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    second = asyncio.create_task(subject.verify(OLD))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.gate.set()
    assert (await second).sub == "alice"
    assert server.requests == 1


async def test_stopping_during_a_fetch_answers_its_waiters(
    subject: Verifier, server: KeyServer
) -> None:
    server.gate.clear()
    await subject.start()
    waiter = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    await subject.stop()
    with pytest.raises(Unavailable):
        await waiter
    with pytest.raises(Unavailable):
        await subject.verify(OLD)
    await subject.stop()
    server.gate.set()


async def test_stopping_at_once_leaves_it_able_to_start_again(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for turns in range(4):
        await subject.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await subject.stop()
    clock.advance(5)
    await subject.start()
    await subject.start()
    try:
        assert (await subject.verify(OLD)).sub == "alice"
    finally:
        await subject.stop()


async def test_the_server_starts_while_its_issuer_is_away(clock: ManualClock) -> None:
    with serve_keys() as gone:
        url = gone.url
    subject = Verifier(settings(url), clock)
    await subject.start()
    try:
        with pytest.raises(Unavailable) as caught:
            await subject.verify(OLD)
        assert url not in caught.value.message
    finally:
        await subject.stop()


async def test_start_fetches_ahead_and_retries_by_itself(server: KeyServer) -> None:
    server.status = 503
    subject = running(server, 0.01)
    token = sign("RS256", PRIVATE["RSA"], {"exp": 4_000_000_000}, kid="old")
    await subject.start()
    try:
        await until(lambda: server.requests >= 3)
        server.status = 200

        def verified() -> bool:
            try:
                return subject.verify_now(token) is not None
            except Unavailable:
                return False

        await until(verified)
    finally:
        await subject.stop()


async def test_a_key_that_was_removed_is_dropped_in_time(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_AGE_SECONDS", 0.01)
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    subject = running(server, 0.01)
    token = sign("RS256", PRIVATE["RSA"], {"exp": 4_000_000_000}, kid="old")
    await subject.start()
    try:
        await subject.verify(token)
        server.publish(jwk("RSA2", kid="new"))
        seen = server.requests

        await until(lambda: server.requests >= seen + 2)
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(token)
    finally:
        await subject.stop()
