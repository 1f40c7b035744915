"""Sign-up, sign-in, refresh and sign-out, over one database for all workers."""

import asyncio
import logging
import math
import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from ..clock import Clock
from ..database.database import Database
from ..protocol.errors import ChatError, Forbidden, Invalid, NotFound, RateLimited, Unauthorized
from ..settings import Settings
from . import invitations, users
from .access import AccessToken, AccessTokens, Identity, Revoking
from .attempts import Attempt, Attempts
from .mails import InvitationMail, InvitationMails, check_receiver
from .passwords import Passwords, check_password
from .refresh import RefreshTokens
from .roles import MEMBER, may_manage_users, may_read_users
from .sign_ins import Prolonged, SignIns
from .users import TAKEN, Account, Credentials

logger = logging.getLogger(__name__)

FORGET_SECONDS: Final = 600.0
"""Seconds between two deletions of expired rows by a worker, ± a quarter to avoid collisions."""

_WRONG: Final = "name, password: one of them is wrong"
_OVER: Final = "refresh_token: the sign-in is over, or never was; sign in again"


class SignedIn(Struct, frozen=True):
    """The tokens of a signed-in user.

    Args:
        account: the user.
        access: the token for the chat.
        refresh_token: the token for the next `access`.
        refresh_seconds: seconds for which the refresh token is valid.
    """

    account: Account
    access: AccessToken
    refresh_token: str
    refresh_seconds: int


class Accounts:
    """The accounts of a server.

    Args:
        settings: the server's settings, with a shared secret.
        database: the database of the accounts.
        clock: tells the time.
        mails: sends invitations; None if the server sends no mail.
        revoking: revokes access tokens; without it tokens are valid until they expire.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        mails: InvitationMails | None = None,
        revoking: Revoking | None = None,
    ) -> None:
        self._revoking = revoking
        self._settings = settings
        self._mails = mails
        self._database = database
        self._clock = clock
        self._secret = secret = settings.auth.secret.encode()
        self._access = AccessTokens(settings, clock)
        self._passwords = Passwords(settings.accounts)
        self._refresh_tokens = RefreshTokens(secret)
        self._sign_ins = SignIns(settings.accounts, self._refresh_tokens)
        self._attempts = Attempts(settings.accounts, secret)
        self._forgetting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to delete expired rows periodically."""
        self._forgetting = asyncio.create_task(self._keep_forgetting(), name="accounts")

    async def stop(self) -> None:
        """Stop deleting expired rows, and end the threads that hash passwords."""
        self._passwords.close()
        task, self._forgetting = self._forgetting, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # Signing up ---------------------------------------------------------------------------------

    async def sign_up(
        self, name: str, password: str, *, invitation: str | None, address: str
    ) -> Account:
        """Add a user who signs up without an operator.

        Args:
            name: the name as typed.
            password: the password as typed.
            invitation: the token of an invitation; None without an invitation.
            address: the address for counting attempts.

        Raises:
            Forbidden: sign-up is closed, or needs an invitation.
            Invalid: the name, the password or the invitation cannot be used.
            RateLimited: too many attempts from this address.
            Unavailable: the database is down, or too many passwords wait for hashing.
        """
        self._check_open(invitation)
        user = self._check_new(name, password)
        attempt = self._attempts.begin(address=address)
        _check_wait(attempt.wait(self._now()))
        with self._passwords.turn():
            await self._foresee(user, invitation, attempt)
            digest = await self._passwords.hash(password)
            now = self._now()

            def add(connection: Connection) -> Account:
                roles: Sequence[str] = (MEMBER,)
                if invitation is not None:
                    roles = invitations.use(connection, invitation, user, now)
                return users.add(connection, user, digest, roles, now)

            try:
                return await self._database.run(add)
            except IntegrityError:
                raise Invalid({"name": TAKEN}) from None

    def _check_open(self, invitation: str | None) -> None:
        sign_up = self._settings.accounts.sign_up
        if sign_up == "closed":
            raise Forbidden("nobody can sign up here")
        if sign_up == "invited" and invitation is None:
            raise Forbidden("invitation: is needed to sign up here")

    def _check_new(self, name: str, password: str) -> str:
        fields: dict[str, str] = {}
        user = ""
        try:
            user = users.new_name(name, self._settings.accounts.reserved_names)
        except Invalid as error:
            fields |= error.fields
        try:
            check_password(password, user)
        except ValueError as error:
            fields["password"] = str(error)
        if fields:
            raise Invalid(fields)
        return user

    async def _foresee(self, user: str, invitation: str | None, attempt: Attempt) -> None:
        """Refuse a sign-up that would fail anyway, before hashing its password."""
        now = self._now()

        def look(connection: Connection) -> tuple[dict[bytes, int], bool, bool]:
            over = attempt.count(connection, now)
            taken = not over and users.is_taken(connection, user)
            invited = invitation is None or invitations.is_valid(connection, invitation, now)
            return over, taken, invited

        over, taken, invited = await self._database.run(look)
        _check_wait(attempt.learn(over, now))
        if not invited:
            raise invitations.invalid()
        if taken:
            raise Invalid({"name": TAKEN})

    # Signing in ---------------------------------------------------------------------------------

    async def log_in(self, name: str, password: str, *, address: str) -> SignedIn:
        """Begin a sign-in. Neither the error nor the time reveals whether a user exists.

        Args:
            name: the name as typed.
            password: the password as typed.
            address: the address for counting attempts.

        Raises:
            Unauthorized: the user does not exist, the password is wrong, or the user is disabled.
            RateLimited: too many attempts with this name or from this address.
            Unavailable: the database is down, or too many passwords wait for hashing.
        """
        return await self._sign_in(name, password, address)

    async def _sign_in(
        self, name: str, password: str, address: str, new_password: str | None = None
    ) -> SignedIn:
        user = users.known_name(name)
        counted = name if user is None else user
        attempt = self._attempts.begin(name=counted, address=address)
        _check_wait(attempt.wait(self._now()))
        with self._passwords.turn():
            found = await self._find(user or "")
            known = None if found is None or found.account.disabled else found
            digest = None if known is None else known.password_hash
            right = await self._passwords.verify(digest, password)
            if known is not None and right:
                digest = await self._next_hash(known, password, new_password)
            now = self._now()

            def count_and_begin(
                connection: Connection,
            ) -> tuple[dict[bytes, int], Prolonged | None]:
                # Count before the answer, so an attempt over the limit reveals nothing about the
                # password.
                over = attempt.count(connection, now)
                if known is None or not right or over:
                    return over, None
                return over, self._begin(connection, known, digest, new_password, now)

            over, prolonged = await self._database.run(count_and_begin)
        _check_wait(attempt.learn(over, now))
        if prolonged is None:
            raise Unauthorized(_WRONG)
        if new_password is not None:
            await self._revoke(prolonged.account.id, "has another password")
        return await self._signed_in(prolonged)

    async def _next_hash(
        self, user: Credentials, password: str, new_password: str | None
    ) -> str | None:
        """Return a replacement for a user's hash; None if the hash stays."""
        if new_password is not None:
            return await self._passwords.hash(new_password)
        if self._passwords.is_outdated(user.password_hash):
            return await self._passwords.hash(password)
        return None

    def _begin(
        self,
        connection: Connection,
        user: Credentials,
        digest: str | None,
        new_password: str | None,
        now: int,
    ) -> Prolonged | None:
        """Begin a sign-in, unless the user was changed during the hashing of the password."""
        if digest is not None:
            if not users.replace_hash(connection, user, digest):
                return None
            user = replace(user, password_hash=digest)
        if new_password is not None:
            users.end_sign_ins(connection, user.account.id)
        return self._sign_ins.begin(connection, user, now)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Continue a sign-in.

        Raises:
            Unauthorized: the token is invalid; an old token also ends its sign-in.
            Unavailable: the database is down.
        """
        prolonged = None
        token = self._refresh_tokens.read(refresh_token)
        if token is not None:
            now = self._now()
            prolonged = await self._database.run(
                lambda connection: self._sign_ins.prolong(connection, token, now)
            )
        if prolonged is None:
            raise Unauthorized(_OVER)
        return await self._signed_in(prolonged)

    async def log_out(self, refresh_token: str, *, everywhere: bool = False) -> None:
        """End a sign-in, or all sign-ins of its user; an invalid token is no error.

        An access token does not name its sign-in, so all access tokens of the user are revoked.

        Raises:
            Unavailable: the database is down.
        """
        token = self._refresh_tokens.read(refresh_token)
        if token is not None:
            user = await self._database.run(
                lambda connection: self._sign_ins.end(connection, token, everywhere=everywhere)
            )
            if user is not None:
                await self._revoke(user, "has signed out")

    async def change_password(self, user: str, old: str, new: str, *, address: str) -> SignedIn:
        """Change a user's password, end all sign-ins of the user, and begin a new one.

        Args:
            user: the user of the access token.
            old: the present password.
            new: the new password.
            address: the address for counting attempts.

        Raises:
            Invalid: the new password cannot be used.
            Unauthorized, RateLimited, Unavailable: as for `log_in`.
        """
        try:
            check_password(new, user)
        except ValueError as error:
            raise Invalid({"new_password": str(error)}) from None
        return await self._sign_in(user, old, address, new)

    async def _revoke(self, user: str, reason: str) -> None:
        if self._revoking is not None:
            await self._revoking.revoke(user, reason)

    async def _signed_in(self, prolonged: Prolonged) -> SignedIn:
        account = prolonged.account
        if self._revoking is not None:
            await self._revoking.settle(account.id)
        access = self._access.issue(Identity(account.id, roles=account.roles))
        return SignedIn(account, access, prolonged.token, prolonged.seconds)

    # Users --------------------------------------------------------------------------------------

    async def user(self, by: str, user: str) -> Account:
        """Return a user's record to the user `by`.

        Raises:
            Forbidden: the record is another user's, and no role of `by` allows to read other users.
            NotFound: the user does not exist.
        """
        asker = await self._asker(by)
        if user == by:
            return asker
        self._require(may_read_users(asker.roles, self._settings), "read other users")
        found = await self._find(user)
        if found is None:
            raise NotFound("there is no such user")
        return found.account

    async def users(self, by: str, after: str, limit: int) -> tuple[list[Account], bool]:
        """Return users behind a name to the user `by`, and whether further users follow.

        Raises:
            Forbidden: no role of `by` allows to read other users.
        """
        asker = await self._asker(by)
        self._require(may_read_users(asker.roles, self._settings), "read other users")
        found = await self._database.run(
            lambda connection: users.listed(connection, after, limit + 1), read_only=True
        )
        return found[:limit], len(found) > limit

    async def check_own(self, by: str, user: str) -> None:
        """Check that the user `by` asks for the data of `by`.

        Raises:
            Forbidden: the data is another user's.
        """
        self._require(by == user, "have what is another user's")
        await self._asker(by)

    async def check_may_close(self, by: str, user: str) -> None:
        """Check that `by` may close an account: the own account, or with a role any account.

        Raises:
            Forbidden: the account is another user's, and no role of `by` allows to manage users.
            NotFound: the user does not exist.
        """
        if user != by:
            asker = await self._asker(by)
            self._require(may_manage_users(asker.roles, self._settings), "close other accounts")
        await self.user(by, user)

    async def close(self, user: str) -> None:
        """Close a user's account: sign-in is impossible from now on, and the name stays taken.

        Raises:
            Unavailable: the database is down.
        """
        now = self._now()

        def close(connection: Connection) -> None:
            users.change(connection, user, disabled_at=now, password_hash="", roles="")
            users.end_sign_ins(connection, user)

        await self._database.run(close)
        await self._revoke(user, "has closed the account")

    async def record(self, user: str) -> Account | None:
        """Return a user's record; None for an unknown user.

        Raises:
            Unavailable: the database is down.
        """
        found = await self._find(user)
        return None if found is None else found.account

    async def invite(
        self, by: str, roles: Sequence[str], email: str | None = None
    ) -> invitations.Invitation:
        """Make an invitation for one sign-up.

        Args:
            by: the inviting user.
            roles: the roles of the new user.
            email: an address to send the invitation to; None sends no mail.

        Raises:
            Forbidden: no role of `by` allows to invite users.
            Invalid: a role does not exist, or no mail can be sent to the address.
            Unavailable: the database is down, or the mail cannot be stored.
        """
        asker = await self._asker(by)
        self._require(may_manage_users(asker.roles, self._settings), "invite users")
        unknown = [name for name in roles if name not in self._settings.accounts.roles]
        if unknown or not roles:
            known = ", ".join(self._settings.accounts.roles)
            raise Invalid({"roles": f"must be one or more of {known}"})
        if email is not None and self._mails is None:
            raise Invalid({"email": "this server sends no mail: its mail.url is not set"})
        if email is not None:
            check_receiver(email)
        seconds = self._settings.accounts.invitation_seconds
        expires_at = self._now() + math.ceil(seconds * 1000)
        seed = invitations.new_seed()
        token = invitations.token_of(self._secret, seed)
        made = await self._database.run(
            lambda connection: invitations.add(connection, token, roles, by, expires_at)
        )
        if email is not None and self._mails is not None:
            await self._mails.post(InvitationMail(email, seed, by, expires_at))
        return made

    async def _asker(self, user: str) -> Account:
        # Roles come from the database, not the token: they may have changed since the token was
        # issued.
        found = await self._find(user)
        if found is None or found.account.disabled:
            raise Forbidden("the token's user has no account here")
        return found.account

    async def _find(self, user: str) -> Credentials | None:
        return await self._database.run(
            lambda connection: users.find(connection, user), read_only=True
        )

    def _require(self, allowed: bool, what: str) -> None:
        if not allowed:
            raise Forbidden(f"no role of yours allows to {what}")

    # Expiry -------------------------------------------------------------------------------------

    async def forget(self) -> None:
        """Delete expired sign-ins, invitations and attempts.

        Raises:
            Unavailable: the database is down.
        """
        now = self._now()

        def forget(connection: Connection) -> None:
            self._sign_ins.forget(connection, now)
            invitations.forget(connection, now)
            self._attempts.forget(connection, now)

        await self._database.run(forget)

    async def _keep_forgetting(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311
            try:
                await self.forget()
            except ChatError:
                pass  # The database logs that it is down; there is time.
            except Exception:
                logger.exception("deleting what is over has failed")

    def _now(self) -> int:
        return math.floor(self._clock.time() * 1000)


def _check_wait(wait_ms: int) -> None:
    if wait_ms:
        raise RateLimited.by("sign_ins", "too many attempts to sign in", retry_in_ms=wait_ms)
