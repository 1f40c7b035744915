"""Who may sign up, with and without invitations, and who sees and invites others."""

import asyncio

import pytest

from chat_server.accounts.accounts import Accounts
from chat_server.accounts.administration import Administration
from chat_server.database.database import Database
from chat_server.protocol.errors import (
    Forbidden,
    Invalid,
    NotFound,
)
from tests.rig.clock import ManualClock

from .conftest import account_settings
from .helpers import HOME, PASSWORD, sign_up


@pytest.mark.parametrize("sign_up_mode", ["closed", "invited"])
async def test_without_an_invitation_nobody_signs_up(
    database: Database, clock: ManualClock, sign_up_mode: str
) -> None:
    accounts = Accounts(account_settings(sign_up=sign_up_mode), database, clock)
    with pytest.raises(Forbidden):
        await sign_up(accounts)
    await accounts.stop()


async def test_an_invitation_is_for_one_sign_up_and_gives_its_roles(
    database: Database, clock: ManualClock, operator: Administration
) -> None:
    accounts = Accounts(account_settings(sign_up="invited"), database, clock)
    invitation = await operator.invite(["admin"])
    with pytest.raises(Invalid, match="invitation"):
        await sign_up(accounts, invitation=f"{invitation.token}x")
    names = ("alice", "bob", "carol")
    attempts = [sign_up(accounts, name, invitation.token) for name in names]
    done = await asyncio.gather(*attempts, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Invalid", "Invalid", "NoneType"]
    [account] = [account async for account in operator.all()]
    assert account.roles == ("admin",)
    await accounts.stop()


async def test_an_invitation_expires(accounts: Accounts, clock: ManualClock) -> None:
    await accounts.sign_up("boss", PASSWORD, invitation=None, address=HOME)
    operator = Administration(account_settings(), accounts._database, clock)
    token = (await operator.invite(["member"])).token
    clock.advance(7 * 86_400)
    with pytest.raises(Invalid, match="invitation"):
        await sign_up(accounts, invitation=token)


async def test_an_invitation_is_not_used_up_by_a_name_that_is_taken(
    accounts: Accounts, operator: Administration
) -> None:
    await sign_up(accounts)
    token = (await operator.invite(["admin"])).token
    with pytest.raises(Invalid, match="name"):
        await sign_up(accounts, "alice", token)
    await sign_up(accounts, "bob", token)


async def test_who_manages_users_invites_and_sees_all(
    accounts: Accounts, operator: Administration
) -> None:
    await operator.add("boss", PASSWORD, ["admin"])
    await sign_up(accounts, "alice")
    await sign_up(accounts, "bob")
    invitation = await accounts.invite("boss", ["member"])
    await sign_up(accounts, "carol", invitation.token)
    listed, more = await accounts.users("boss", "alice", 2)
    assert ([account.id for account in listed], more) == (["bob", "boss"], True)
    listed, more = await accounts.users("boss", "boss", 2)
    assert ([account.id for account in listed], more) == (["carol"], False)
    assert (await accounts.user("boss", "bob")).id == "bob"
    with pytest.raises(NotFound):
        await accounts.user("boss", "nobody")
    with pytest.raises(Invalid, match="roles"):
        await accounts.invite("boss", ["chief"])
    with pytest.raises(Invalid, match="roles"):
        await accounts.invite("boss", [])


async def test_who_does_not_sees_nobody_else(accounts: Accounts) -> None:
    await sign_up(accounts, "alice")
    await sign_up(accounts, "bob")
    assert (await accounts.user("alice", "alice")).id == "alice"
    for attempt in (
        accounts.user("alice", "bob"),
        accounts.user("alice", "nobody"),
        accounts.users("alice", "", 10),
        accounts.invite("alice", ["admin"]),
        accounts.users("ghost", "", 10),  # whose token another issuer with the secret made
    ):
        with pytest.raises(Forbidden):
            await attempt
