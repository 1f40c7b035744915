"""Invitations by mail: a job sends each."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..jobs import Jobs
from ..mail import Mailer, MailRefused, check_address
from ..protocol.errors import Invalid
from ..settings import Settings
from .invitations import token_of

logger = logging.getLogger(__name__)

JOB: Final = "invitation mail"

ATTEMPTS: Final = 16
"""Attempts within an hour and a quarter in all: a mail server may refuse an unknown sender's first
attempts (greylisting, RFC 6647).
"""

TIMEOUT_SECONDS: Final = 120.0
"""Seconds of an attempt."""


class InvitationMail(Struct, frozen=True):
    """The stored data of a mail. The link's token is not part of the data.

    Args:
        to: the address.
        seed: the seed of the token.
        by: the inviting user; None for the operator.
        expires_at: milliseconds since 1970.
    """

    to: str
    seed: str
    by: str | None
    expires_at: int


class InvitationMails:
    """Sends invitations.

    Args:
        settings: the server's settings, with a `mail.url`.
        jobs: run the sending; without jobs `post` sends the mail itself.

    Raises:
        SettingsError: aiosmtplib or pydocket is not installed.
    """

    def __init__(self, settings: Settings, jobs: Jobs | None = None) -> None:
        self._page = settings.mail.page_url.rstrip("/")
        self._secret = settings.auth.secret.encode()
        self._mailer = Mailer(settings.mail)
        self._jobs = jobs
        if jobs is not None:
            jobs.register(JOB, self._work, attempts=ATTEMPTS, timeout_seconds=TIMEOUT_SECONDS)

    async def post(self, mail: InvitationMail) -> None:
        """Send a mail soon, even if this process is killed.

        Raises:
            Unavailable: the job cannot be stored.
            MailError: the mail could not be sent, and there are no jobs.
        """
        if self._jobs is None:
            await self._send(mail)
            return
        data = msgspec.to_builtins(mail)
        await self._jobs.add(JOB, data, key=f"invitation:{mail.seed}")

    async def _work(self, data: Any) -> None:
        try:
            await self._send(msgspec.convert(data, InvitationMail))
        except MailRefused as error:
            logger.error("the mail of an invitation is refused: %s", error)

    async def _send(self, mail: InvitationMail) -> None:
        token = token_of(self._secret, mail.seed)
        until = datetime.fromtimestamp(mail.expires_at / 1_000, UTC)
        host = self._page.partition("://")[2]
        text = (
            f"{mail.by or 'An administrator'} invites you to the chat at {host}.\n\n"
            f"Sign up by this link:\n\n{self._page}/#invitation={token}\n\n"
            f"It is for one person, and good until {until:%Y-%m-%d %H:%M} UTC.\n"
            "If you do not expect an invitation, ignore this mail.\n"
        )
        subject = f"You are invited to the chat at {host}"
        await self._mailer.send(mail.to, subject, text, id=mail.seed, secret=token)


def check_receiver(address: str) -> None:
    """Check that an invitation can be sent to an address.

    Raises:
        Invalid: the address is not valid.
    """
    try:
        check_address(address)
    except ValueError as error:
        raise Invalid({"email": str(error)}) from None
