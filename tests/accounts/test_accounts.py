"""Signing up, signing in, staying signed in and signing out, in either database."""

import asyncio

import pytest
from sqlalchemy import Connection, event, select, update

from chat_server.accounts import sign_ins, users
from chat_server.accounts.accounts import Accounts
from chat_server.accounts.administration import Administration
from chat_server.accounts.tables import SIGN_INS, USERS
from chat_server.auth.tokens import Verifier
from chat_server.database.database import Database
from chat_server.protocol.errors import (
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
)
from tests.rig.clock import ManualClock

from .conftest import account_settings
from .helpers import HOME, PASSWORD, log_in, rows, sign_up


async def test_who_signs_up_can_sign_in(accounts: Accounts, clock: ManualClock) -> None:
    account = await accounts.sign_up("Alice", PASSWORD, invitation=None, address=HOME)
    assert (account.id, account.roles, account.disabled) == ("alice", ("member",), False)
    for spelling in ("alice", "ALICE", "Ａｌｉｃｅ"):
        signed_in = await accounts.log_in(spelling, PASSWORD, address=HOME)
        assert signed_in.account == account
    claims = await Verifier(account_settings().auth, clock).verify(signed_in.access.token)
    assert claims.sub == "alice"
    assert claims.topics.subscribe == ("room:**", "user:{sub}")
    assert claims.expires_at == clock.time() + signed_in.access.expires_in == clock.time() + 600
    assert signed_in.refresh_seconds == 2_592_000


@pytest.mark.parametrize("name", ["Alice", "аlice", "a1ice", "\u0430li\u0441e"])
async def test_a_name_like_anothers_cannot_be_had(accounts: Accounts, name: str) -> None:
    await sign_up(accounts)
    with pytest.raises(Invalid) as refused:
        await sign_up(accounts, name)
    assert set(refused.value.fields) == {"name"}


async def test_every_wrong_field_is_told(accounts: Accounts) -> None:
    with pytest.raises(Invalid) as refused:
        await accounts.sign_up("_", "short", invitation=None, address=HOME)
    assert set(refused.value.fields) == {"name", "password"}


@pytest.mark.parametrize("name", ["admin", "Admin", "adm1n", "r00t", "аdmіn"])
async def test_reserved_names_are_for_the_operator(
    accounts: Accounts, operator: Administration, name: str
) -> None:
    with pytest.raises(Invalid):
        await sign_up(accounts, name)
    assert (await operator.add("admin", PASSWORD, ["admin"])).roles == ("admin",)
    assert await log_in(accounts, "admin")


async def test_of_two_who_want_a_name_at_once_one_has_it(accounts: Accounts) -> None:
    attempts = [sign_up(accounts, name) for name in ("alice", "Alice", "ALICE", "a1ice")]
    done = await asyncio.gather(*attempts, return_exceptions=True)
    refused = [each for each in done if each is not None]
    assert len(refused) == 3
    assert all(isinstance(each, Invalid) and "name" in each.fields for each in refused)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong horse"),
        ("alice", ""),
        ("bob", PASSWORD),
        ("", PASSWORD),
        ("a\0b", PASSWORD),
        ("\ud800", "\ud800"),
        ("x" * 10_000, PASSWORD),
    ],
)
async def test_who_is_wrong_is_told_the_same(accounts: Accounts, name: str, password: str) -> None:
    await sign_up(accounts)
    with pytest.raises(Unauthorized, match="name, password: one of them is wrong"):
        await log_in(accounts, name, password)


async def test_a_user_who_does_not_exist_costs_as_much_as_one_who_does(
    accounts: Accounts,
    operator: Administration,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time that an answer takes tells nothing, because the work is the same."""
    await sign_up(accounts)
    await operator.add("off", PASSWORD, ["member"])
    await operator.disable("off")
    work: list[str] = []
    hasher = accounts._passwords._hasher

    class Counting:
        check_needs_rehash = hasher.check_needs_rehash

        def verify(self, digest: str, password: bytes) -> bool:
            work.append(digest.rpartition("$")[0].rpartition("$")[0])  # without salt and hash
            return hasher.verify(digest, password)

    monkeypatch.setattr(accounts._passwords, "_hasher", Counting())
    engine = database.engine

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        work.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    done = {}
    for name in ("alice", "bob", "_", "off"):
        work.clear()
        with pytest.raises(Unauthorized):
            await log_in(accounts, name, "wrong horse")
        done[name] = sorted(work)
    event.remove(engine, "before_cursor_execute", note)
    assert len(done["alice"]) >= 3
    assert done["bob"] == done["_"] == done["off"] == done["alice"]


async def test_a_password_that_was_changed_meanwhile_is_of_no_use(
    accounts: Accounts, operator: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sign_up(accounts)
    verify = accounts._passwords.verify

    async def slowly(digest: str | None, password: str) -> bool:
        right = await verify(digest, password)
        await operator.set_password("alice", "another horse")
        return right

    monkeypatch.setattr(accounts._passwords, "verify", slowly)
    with pytest.raises(Unauthorized):
        await log_in(accounts)


async def test_a_hash_of_old_parameters_is_replaced_at_the_next_sign_in(
    accounts: Accounts, database: Database, clock: ManualClock
) -> None:
    await sign_up(accounts)
    better = Accounts(account_settings(hash_passes=2), database, clock)
    assert await log_in(better)
    async with database.session(read_only=True) as session:
        digest = await session.scalar(select(USERS.c.password_hash))
    assert digest is not None
    assert ",t=2," in digest
    assert await log_in(better)
    await better.stop()


# Staying signed in ------------------------------------------------------------------------------


async def test_a_sign_in_goes_on_as_long_as_it_is_used(
    accounts: Accounts, clock: ManualClock
) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    seen = {token}
    for _ in range(4):
        clock.advance(20 * 86_400)
        token = (await accounts.refresh(token)).refresh_token
        seen.add(token)
    assert len(seen) == 5
    clock.advance(10 * 86_400)  # 90 days, which no use prolongs
    with pytest.raises(Unauthorized):
        await accounts.refresh(token)


async def test_a_sign_in_that_is_not_used_ends(accounts: Accounts, clock: ManualClock) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    clock.advance(30 * 86_400)
    with pytest.raises(Unauthorized):
        await accounts.refresh(token)


async def test_tabs_that_renew_at_once_get_the_same_token(accounts: Accounts) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    answers = await asyncio.gather(*(accounts.refresh(token) for _ in range(8)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert answers[0].refresh_token != token
    await accounts.refresh(answers[0].refresh_token)


async def test_a_token_that_is_used_again_later_ends_the_sign_in(
    accounts: Accounts, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await sign_up(accounts)
    stolen = await log_in(accounts)
    other = await log_in(accounts)
    current = (await accounts.refresh(stolen)).refresh_token
    clock.advance(60)
    for token in (stolen, current, stolen):
        with pytest.raises(Unauthorized):
            await accounts.refresh(token)
    assert "'alice' was used again after 60 s" in caplog.text
    assert stolen not in caplog.text
    await accounts.refresh(other)  # another sign-in of the same user


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a" * 48, "a" * 10_000])
async def test_what_is_no_token_refreshes_nothing(accounts: Accounts, token: str) -> None:
    with pytest.raises(Unauthorized):
        await accounts.refresh(token)
    await accounts.log_out(token)  # and is no error there


async def test_roles_become_patterns_with_the_next_token(
    accounts: Accounts, operator: Administration, database: Database, clock: ManualClock
) -> None:
    settings = account_settings(
        roles__member__subscribe="news", roles__admin__moderate="room:**,news"
    )
    accounts = Accounts(settings, database, clock)
    await operator.add("alice", PASSWORD, ["member"])
    signed_in = await accounts.log_in("alice", PASSWORD, address=HOME)
    verifier = Verifier(settings.auth, clock)
    topics = (await verifier.verify(signed_in.access.token)).topics
    assert topics.subscribe == ("room:**", "user:{sub}", "news")
    assert topics.publish == ("room:**",)
    assert topics.moderate == ()
    await operator.set_roles("Alice", ["admin"])
    again = await accounts.refresh(signed_in.refresh_token)
    topics = (await verifier.verify(again.access.token)).topics
    assert topics.subscribe == ("room:**", "user:{sub}")
    assert topics.moderate == ("room:**", "news")
    await accounts.stop()


async def test_a_role_that_is_gone_allows_nothing(
    accounts: Accounts, operator: Administration, database: Database
) -> None:
    await operator.add("alice", PASSWORD, ["admin"])
    async with database.session() as session:
        await session.execute(update(USERS).values(roles="chief,,"))
    await log_in(accounts)
    with pytest.raises(Forbidden):
        await accounts.users("alice", "", 10)


async def test_many_sign_ins_of_a_user_are_cut_to_the_newest(
    accounts: Accounts, clock: ManualClock, database: Database
) -> None:
    await sign_up(accounts)
    tokens = []

    def begin_many(connection: Connection) -> None:
        user = users.find(connection, "alice")
        assert user is not None
        for number in range(sign_ins.MAX_SIGN_INS + 2):
            now = int(clock.time() * 1000) + number
            begun = accounts._sign_ins.begin(connection, user, now)
            assert begun is not None
            tokens.append(begun.token)

    await database.run(begin_many)
    await accounts.forget()
    assert await rows(database, SIGN_INS) == sign_ins.MAX_SIGN_INS
    await accounts.refresh(tokens[2])
    for token in tokens[:2]:
        with pytest.raises(Unauthorized):
            await accounts.refresh(token)


# Signing out ------------------------------------------------------------------------------------


async def test_signing_out_ends_one_sign_in_or_all(accounts: Accounts) -> None:
    await sign_up(accounts)
    await sign_up(accounts, "bob")
    one, two, three = [await log_in(accounts) for _ in range(3)]
    bobs = await log_in(accounts, "bob")
    await accounts.log_out(one)
    with pytest.raises(Unauthorized):
        await accounts.refresh(one)
    two = (await accounts.refresh(two)).refresh_token
    await accounts.log_out(two, everywhere=True)
    for token in (two, three):
        with pytest.raises(Unauthorized):
            await accounts.refresh(token)
    await accounts.refresh(bobs)


async def test_another_password_ends_every_sign_in_but_the_new_one(accounts: Accounts) -> None:
    await sign_up(accounts)
    old = await log_in(accounts)
    with pytest.raises(Unauthorized):
        await accounts.change_password("alice", "wrong horse", "another horse", address=HOME)
    with pytest.raises(Invalid) as refused:
        await accounts.change_password("alice", PASSWORD, "short", address=HOME)
    assert set(refused.value.fields) == {"new_password"}
    await accounts.refresh(old)
    signed_in = await accounts.change_password("alice", PASSWORD, "another horse", address=HOME)
    with pytest.raises(Unauthorized):
        await accounts.refresh(old)
    with pytest.raises(Unauthorized):
        await log_in(accounts)
    await accounts.refresh(signed_in.refresh_token)
    assert await log_in(accounts, password="another horse")


async def test_who_is_disabled_is_out(accounts: Accounts, operator: Administration) -> None:
    await sign_up(accounts)
    token = await log_in(accounts)
    await operator.disable("alice")
    for attempt in (accounts.refresh(token), log_in(accounts)):
        with pytest.raises(Unauthorized):
            await attempt
    with pytest.raises(Forbidden):
        await accounts.user("alice", "alice")
    await operator.enable("alice")
    await log_in(accounts)
    with pytest.raises(NotFound):
        await operator.disable("nobody")
