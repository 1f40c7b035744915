"""Invitations by mail: a job sends them, with a link that is in no log."""

import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from chat_server.accounts.accounts import Accounts
from chat_server.accounts.administration import Administration
from chat_server.accounts.mails import InvitationMails
from chat_server.accounts.tables import INVITATIONS
from chat_server.clock import SystemClock
from chat_server.database.database import Database
from chat_server.jobs import Jobs
from chat_server.jobs import jobs as jobs_module
from chat_server.mail import MailError
from chat_server.protocol.errors import Invalid
from chat_server.settings import RedisSettings, Settings
from tests.server.inprocess import make_settings

from ..rig.mail_server import MailServer
from ..rig.waiting import until
from .conftest import QUICK
from .helpers import PASSWORD, rows, sign_up

ADA = "ada@example.org"


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    async with MailServer() as server:
        yield server


@pytest.fixture
def settings(mail_server: MailServer) -> Settings:
    return make_settings(
        mail__url=mail_server.url,
        mail__sender="Chat <chat@example.org>",
        mail__page_url="https://chat.example.org/",
        **{f"accounts__{name}": value for name, value in QUICK.items()},
    )


@pytest.fixture
async def accounts(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Accounts]:
    """Accounts with an administrator, whose jobs lose no time."""
    monkeypatch.setattr(jobs_module, "BACKOFF", (timedelta(milliseconds=10),) * 2)
    jobs = Jobs(RedisSettings())
    accounts = Accounts(settings, database, SystemClock(), InvitationMails(settings, jobs))
    await jobs.start()
    await Administration(settings, database, SystemClock()).add("boss", PASSWORD, ["admin"])
    yield accounts
    await jobs.stop()
    await accounts.stop()


def link_in(text: str) -> str:
    [token] = re.findall(r"^https://chat\.example\.org/#invitation=(\S+)$", text, re.MULTILINE)
    return str(token)


async def test_an_invitation_is_sent_and_nobody_else_learns_of_its_link(
    accounts: Accounts, mail_server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "mail.log")  # of the mail server itself
    # The mail server repeats the link, as one does that takes it for spam.
    mail_server.answer = "451 come back later: {body}"
    invitation = await accounts.invite("boss", ["member"], ADA)
    await until(lambda: mail_server.tried >= 2)
    mail_server.answer = "250 OK"
    await until(lambda: len(mail_server.taken) == 1)
    [mail] = mail_server.taken
    assert mail["To"] == ADA
    assert "boss invites you to the chat at chat.example.org." in mail.get_content()
    assert link_in(mail.get_content()) == invitation.token
    assert "job invitation mail failed in attempt 1" in caplog.text
    assert invitation.token not in caplog.text
    await sign_up(accounts, "ada", invitation.token)


async def test_a_mail_that_is_refused_for_good_is_not_sent_again(
    accounts: Accounts, mail_server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    mail_server.answer = "554 no such user; {body}"
    invitation = await accounts.invite("boss", ["member"], ADA)
    await until(lambda: "is refused: 554" in caplog.text)
    assert mail_server.tried == 1
    assert invitation.token not in caplog.text


async def test_what_cannot_be_sent_makes_no_invitation(
    accounts: Accounts, database: Database, settings: Settings, mail_server: MailServer
) -> None:
    silent = Accounts(settings, database, SystemClock())
    for by, address in (
        (accounts, "ada@example.org\nBcc: everybody@example.org"),
        (accounts, "ada@example.org, bob@example.org"),
        (silent, ADA),
    ):
        with pytest.raises(Invalid, match="email: "):
            await by.invite("boss", ["member"], address)
    await silent.stop()
    assert await rows(database, INVITATIONS) == 0
    assert mail_server.tried == 0


async def test_an_operator_hears_at_once_what_became_of_a_mail(
    database: Database, settings: Settings, mail_server: MailServer
) -> None:
    operator = Administration(settings, database, SystemClock())
    invitation: Any = await operator.invite(["member"], ADA)
    [mail] = mail_server.taken
    assert link_in(mail.get_content()) == invitation.token
    mail_server.answer = "451 not now"
    with pytest.raises(MailError, match="451 not now"):
        await operator.invite(["member"], ADA)
