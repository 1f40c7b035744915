"""Accounts in either database, with a clock that tests move and hashes that cost nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_server.accounts.accounts import Accounts
from chat_server.accounts.administration import Administration
from chat_server.database.database import Database
from chat_server.settings import Settings
from tests.rig.clock import ManualClock
from tests.server.inprocess import make_settings

QUICK = {"hash_memory_kib": 8, "hash_passes": 1}


def account_settings(**flags: Any) -> Settings:
    """Return the testing settings with accounts and these flags."""
    given = {**QUICK, **flags}
    return make_settings(**{f"accounts__{name}": flag for name, flag in given.items()})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def accounts(database: Database, clock: ManualClock) -> AsyncIterator[Accounts]:
    """Accounts that anybody may make."""
    accounts = Accounts(account_settings(sign_up="open"), database, clock)
    yield accounts
    await accounts.stop()


@pytest.fixture
def operator(database: Database, clock: ManualClock) -> Administration:
    return Administration(account_settings(), database, clock)
