"""The operator's commands for accounts, without a check of permissions."""

import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ..clock import Clock
from ..database.database import Database
from ..protocol.errors import Invalid, NotFound
from ..settings import Settings
from . import invitations, users
from .mails import InvitationMail, InvitationMails, check_receiver
from .passwords import Passwords, check_password
from .roles import join
from .users import TAKEN, Account

_PAGE: Final = 1_000


class Administration:
    """Changes accounts for an operator.

    Args:
        settings: the server's settings.
        database: the database of the accounts.
        clock: tells the time.
    """

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock

    async def add(self, name: str, password: str, roles: Sequence[str]) -> Account:
        """Add a user, whose name may be one of `accounts.reserved_names`.

        Raises:
            Invalid: the name, the password or a role cannot be used.
            Unavailable: the database is down.
        """
        user = users.new_name(name)
        self._check_roles(roles)
        digest = await self._hash(user, password)
        now = self._now()
        try:
            return await self._database.run(
                lambda connection: users.add(connection, user, digest, roles, now)
            )
        except IntegrityError:
            raise Invalid({"name": TAKEN}) from None

    async def all(self) -> AsyncIterator[Account]:
        """Yield all users, in the order of their names."""
        after = ""
        while True:
            listed = partial(users.listed, after=after, limit=_PAGE)
            page = await self._database.run(listed, read_only=True)
            for account in page:
                yield account
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def set_password(self, name: str, password: str) -> str:
        """Replace a user's password, end all sign-ins of the user, and return the user's name.

        Raises:
            Invalid: the password cannot be used.
            NotFound: the user does not exist.
            Unavailable: the database is down.
        """
        user = users.known_name(name) or name
        digest = await self._hash(user, password)
        return await self._change(user, password_hash=digest)

    async def set_roles(self, name: str, roles: Sequence[str]) -> str:
        """Replace a user's roles, and return the user's name.

        Sign-ins continue, and have the new roles from the next access token on.

        Raises:
            Invalid: a role does not exist.
            NotFound: the user does not exist.
            Unavailable: the database is down.
        """
        self._check_roles(roles)
        return await self._change(users.known_name(name) or name, end=False, roles=join(roles))

    async def disable(self, name: str) -> str:
        """End all sign-ins of a user, prevent new ones, and return the user's name.

        Raises:
            NotFound: the user does not exist.
            Unavailable: the database is down.
        """
        return await self._change(users.known_name(name) or name, disabled_at=self._now())

    async def enable(self, name: str) -> str:
        """Let a user sign in again, and return the user's name.

        Raises:
            NotFound: the user does not exist.
            Unavailable: the database is down.
        """
        return await self._change(users.known_name(name) or name, end=False, disabled_at=None)

    async def invite(
        self, roles: Sequence[str], email: str | None = None
    ) -> invitations.Invitation:
        """Make an invitation, and mail the invitation if `email` is given.

        Raises:
            Invalid: a role does not exist, or no mail can be sent to the address.
            Unavailable: the database is down.
            MailError: the mail could not be sent.
        """
        self._check_roles(roles)
        mails = None
        if email is not None:
            check_receiver(email)
            mails = InvitationMails(self._settings)
        seconds = self._settings.accounts.invitation_seconds
        expires_at = self._now() + math.ceil(seconds * 1000)
        seed = invitations.new_seed()
        token = invitations.token_of(self._settings.auth.secret.encode(), seed)
        made = await self._database.run(
            lambda connection: invitations.add(connection, token, roles, None, expires_at)
        )
        if email is not None and mails is not None:
            await mails.post(InvitationMail(email, seed, None, expires_at))
        return made

    def _check_roles(self, roles: Sequence[str]) -> None:
        known = self._settings.accounts.roles
        if not set(roles) <= set(known):
            raise Invalid({"role": f"must be one of {', '.join(known)}"})

    async def _hash(self, user: str, password: str) -> str:
        try:
            check_password(password, user)
        except ValueError as error:
            raise Invalid({"password": str(error)}) from None
        passwords = Passwords(self._settings.accounts)
        try:
            return await passwords.hash(password)
        finally:
            passwords.close()

    async def _change(self, user: str, *, end: bool = True, **values: object) -> str:
        def change(connection: Connection) -> bool:
            found = users.change(connection, user, **values)
            if end:
                users.end_sign_ins(connection, user)
            return found

        if not await self._database.run(change):
            raise NotFound(f"name: there is no user {user!r}")
        return user

    def _now(self) -> int:
        return math.floor(self._clock.time() * 1000)
