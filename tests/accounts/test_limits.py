"""Attempts are limited, what is over is deleted, and failures leave nothing behind."""

import asyncio

import pytest
from sqlalchemy import select

from chat_server.accounts.accounts import Accounts
from chat_server.accounts.administration import Administration
from chat_server.accounts.refresh import RefreshTokens
from chat_server.accounts.tables import ATTEMPTS, INVITATIONS, SIGN_INS, USERS
from chat_server.database.database import Database
from chat_server.protocol.errors import (
    ChatError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from tests.rig.clock import ManualClock

from .conftest import account_settings
from .helpers import PASSWORD, log_in, rows, sign_up


async def test_attempts_with_a_name_are_limited_right_or_wrong(
    accounts: Accounts, clock: ManualClock
) -> None:
    await sign_up(accounts)
    for number in range(20):
        with pytest.raises(Unauthorized):
            await accounts.log_in("Alice", "wrong", address=f"198.51.100.{number}")
    with pytest.raises(RateLimited) as refused:
        await accounts.log_in("alice", PASSWORD, address="203.0.113.1")
    assert refused.value.retry_in_ms == 900_000
    with pytest.raises(Unauthorized):
        await log_in(accounts, "bob")
    clock.advance(900)
    assert await log_in(accounts)


async def test_attempts_from_an_address_are_limited_over_all_workers(
    database: Database, clock: ManualClock
) -> None:
    settings = account_settings(sign_up="open", attempts_per_address=6)
    workers = [Accounts(settings, database, clock) for _ in range(2)]
    await sign_up(workers[0])  # which counts as one
    for number in range(5):
        with pytest.raises(Unauthorized):
            await log_in(workers[number % 2], f"user{number}")
    for worker in workers:
        with pytest.raises(RateLimited) as refused:
            await log_in(worker)
        assert refused.value.retry_in_ms == 900_000
    with pytest.raises(RateLimited):
        await sign_up(workers[1], "bob")
    await workers[1].log_in("alice", PASSWORD, address="203.0.113.1")
    for worker in workers:
        await worker.stop()


async def test_who_has_tried_too_often_costs_no_hash(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(21):
        with pytest.raises((Unauthorized, RateLimited)):
            await log_in(accounts)

    def verify(*_: object) -> None:
        raise AssertionError("a password was hashed")

    monkeypatch.setattr(accounts._passwords, "verify", verify)
    with pytest.raises(RateLimited) as refused:
        await log_in(accounts)
    assert refused.value.retry_in_ms == 900_000


async def test_attempts_at_once_are_no_more_than_those_one_by_one(accounts: Accounts) -> None:
    await sign_up(accounts)
    attempts = [log_in(accounts, password=f"wrong {number}") for number in range(30)]
    done = await asyncio.gather(*attempts, return_exceptions=True)
    kinds = [type(each).__name__ for each in done]
    assert kinds.count("Unauthorized") == 20
    assert kinds.count("RateLimited") == 10


async def test_names_are_not_stored_with_attempts(accounts: Accounts, database: Database) -> None:
    with pytest.raises(Unauthorized):
        await log_in(accounts, "my secret password")
    async with database.session(read_only=True) as session:
        keys = (await session.scalars(select(ATTEMPTS.c.key))).all()
    assert len(keys) == 2
    assert all(len(bytes(key)) == 16 for key in keys)


async def test_what_is_over_is_deleted(
    accounts: Accounts, operator: Administration, clock: ManualClock, database: Database
) -> None:
    await sign_up(accounts)
    stolen = await log_in(accounts)
    await accounts.refresh(stolen)
    clock.advance(60)
    with pytest.raises(Unauthorized):
        await accounts.refresh(stolen)
    await operator.invite(["member"])
    await log_in(accounts)
    assert [await rows(database, t) for t in (SIGN_INS, INVITATIONS, ATTEMPTS)] == [2, 1, 2]
    await accounts.forget()
    assert [await rows(database, t) for t in (SIGN_INS, INVITATIONS, ATTEMPTS)] == [2, 1, 2]
    clock.advance(86_400)
    await accounts.forget()
    assert [await rows(database, t) for t in (SIGN_INS, INVITATIONS, ATTEMPTS)] == [1, 1, 0]
    clock.advance(30 * 86_400)
    await accounts.forget()
    assert [await rows(database, t) for t in (SIGN_INS, INVITATIONS, USERS)] == [0, 0, 1]


async def test_a_stolen_database_holds_no_token(accounts: Accounts, database: Database) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    async with database.session(read_only=True) as session:
        [row] = (await session.execute(select(SIGN_INS))).all()
    guess = RefreshTokens(bytes(row.id))
    assert guess.read(token) is None


async def test_while_the_database_is_away_nobody_signs_in(
    accounts: Accounts, database: Database
) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    await database.stop()
    for attempt in (log_in(accounts), accounts.refresh(token), accounts.log_out(token)):
        with pytest.raises(Unavailable):
            await attempt
    await database.start()
    await accounts.refresh(token)


async def test_cleaning_up_goes_on_after_a_failure(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = [Unavailable("away"), ValueError("a fault")]
    done = asyncio.Event()

    async def forget() -> None:
        if errors:
            raise errors.pop(0)
        done.set()

    monkeypatch.setattr("chat_server.accounts.accounts.FORGET_SECONDS", 0.001)
    monkeypatch.setattr(accounts, "forget", forget)
    accounts.start()
    async with asyncio.timeout(90):
        await done.wait()
    assert caplog.text.count("deleting what is over has failed") == 1


async def test_a_caller_who_goes_leaves_nothing_behind(
    accounts: Accounts, database: Database
) -> None:
    await sign_up(accounts)
    for _ in range(20):
        task = asyncio.create_task(log_in(accounts))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, ChatError)):
            await task
    assert accounts._passwords._taken == 0
    assert await rows(database, SIGN_INS) <= 20
