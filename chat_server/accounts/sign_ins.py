"""Sign-ins in the database: begun, continued by refresh tokens, and ended."""

import logging
import math
import secrets
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from ..settings import AccountSettings
from . import users
from .refresh import (
    ID_BYTES,
    RefreshToken,
    RefreshTokens,
    SignIn,
    Verdict,
    begun,
    judge,
    rotated,
)
from .tables import SIGN_INS, USERS
from .users import Account, Credentials

logger = logging.getLogger(__name__)

MAX_SIGN_INS: Final = 50
"""Sign-ins of one user. `forget` deletes the least recently used beyond this bound."""

STOLEN: Final = "stolen"

KEPT_MS: Final = 24 * 3_600_000
"""Milliseconds for which the reason of an ended sign-in is kept."""

_ROW = SIGN_INS.c
_USER = USERS.c

# Built once, because building takes longer than running the statement. The statement skips a user
# who was disabled, or whose password was changed during hashing.
_INSERT = (
    insert(SIGN_INS)
    .from_select(
        ("id", "user_id", "generation", "rotated_at", "expires_at", "ends_at"),
        select(
            bindparam("sign_in", type_=_ROW.id.type),
            _USER.id,
            bindparam("generation", type_=_ROW.generation.type),
            bindparam("rotated_at", type_=_ROW.rotated_at.type),
            bindparam("expires_at", type_=_ROW.expires_at.type),
            bindparam("ends_at", type_=_ROW.ends_at.type),
        ).where(
            _USER.id == bindparam("user"),
            _USER.password_hash == bindparam("password_hash"),
            _USER.disabled_at.is_(None),
        ),
    )
    .returning(_ROW.user_id)
)
_FIND = select(SIGN_INS).where(_ROW.id == bindparam("sign_in")).with_for_update()
_UPDATE = (
    update(SIGN_INS)
    .where(_ROW.id == bindparam("sign_in"))
    .values(
        generation=bindparam("new_generation"),
        rotated_at=bindparam("new_rotated_at"),
        expires_at=bindparam("new_expires_at"),
        ended=bindparam("new_ended"),
    )
)
_CROWDED = (
    select(_ROW.user_id).group_by(_ROW.user_id).having(func.count() > MAX_SIGN_INS).limit(1_000)
)
_DELETE_OLDEST = delete(SIGN_INS).where(
    _ROW.id.in_(
        select(_ROW.id)
        .where(_ROW.user_id == bindparam("user"))
        .order_by(_ROW.rotated_at.desc(), _ROW.id)
        .offset(MAX_SIGN_INS)
    )
)


class Prolonged(Struct, frozen=True):
    """A continued sign-in.

    Args:
        account: the user's present record.
        token: the current refresh token.
        seconds: remaining lifetime of the refresh token.
    """

    account: Account
    token: str
    seconds: int


class SignIns:
    """The sign-ins of all users.

    Args:
        settings: the lifetimes.
        tokens: writes the refresh tokens.
    """

    def __init__(self, settings: AccountSettings, tokens: RefreshTokens) -> None:
        self._idle_ms = math.ceil(settings.refresh_seconds * 1000)
        self._longest_ms = math.ceil(settings.sign_in_seconds * 1000)
        self._grace_ms = math.ceil(settings.refresh_grace_seconds * 1000)
        self._tokens = tokens

    def begin(self, connection: Connection, user: Credentials, now: int) -> Prolonged | None:
        """Begin a sign-in; return None if the user was disabled or has a new password."""
        id = secrets.token_bytes(ID_BYTES)
        state = begun(user.account.id, now, self._idle_ms, self._longest_ms)
        given = {
            "sign_in": id,
            "user": state.user,
            "password_hash": user.password_hash,
            "generation": state.generation,
            "rotated_at": state.rotated_at,
            "expires_at": state.expires_at,
            "ends_at": state.ends_at,
        }
        if connection.execute(_INSERT, given).first() is None:
            return None
        return self._prolonged(user.account, id, state, now)

    def prolong(self, connection: Connection, token: RefreshToken, now: int) -> Prolonged | None:
        """Use a refresh token; return None for an invalid token.

        A stolen token ends its sign-in. The transaction must be committed in either case.
        """
        # Of two requests with one token the second waits, and then sees the result of the first.
        row = connection.execute(_FIND, {"sign_in": token.sign_in}).one_or_none()
        if row is None:
            return None
        state = SignIn(
            row.user_id, row.generation, row.rotated_at, row.expires_at, row.ends_at, row.ended
        )
        found = users.find(connection, state.user)
        if found is None or found.account.disabled:
            return None
        verdict = judge(state, token.generation, now, self._grace_ms)
        if verdict is Verdict.ROTATE:
            state = rotated(state, now, self._idle_ms)
            self._update(connection, token, state)
        elif verdict is Verdict.STOLEN:
            logger.warning(
                "a refresh token of %r was used again after %d s: its sign-in has ended",
                *(state.user, (now - state.rotated_at) // 1000),
            )
            self._update(connection, token, replace(state, ended=STOLEN))
            return None
        elif verdict is Verdict.OVER:
            return None
        return self._prolonged(found.account, token.sign_in, state, now)

    def end(
        self, connection: Connection, token: RefreshToken, *, everywhere: bool = False
    ) -> str | None:
        """End the sign-in of a refresh token, current or old, or all sign-ins of its user.

        Returns:
            The user, or None if the sign-in is over.
        """
        this = _ROW.id == token.sign_in
        user: str | None = connection.scalar(select(_ROW.user_id).where(this))
        if user is not None:
            ended = _ROW.user_id == user if everywhere else this
            connection.execute(delete(SIGN_INS).where(ended))
        return user

    def forget(self, connection: Connection, now: int) -> None:
        """Delete expired sign-ins, and sign-ins beyond `MAX_SIGN_INS`."""
        for user in connection.scalars(_CROWDED).all():
            connection.execute(_DELETE_OLDEST, {"user": user})
        told = _ROW.ended.is_not(None) & (_ROW.rotated_at < now - KEPT_MS)
        connection.execute(delete(SIGN_INS).where(or_(_ROW.expires_at <= now, told)))

    def _update(self, connection: Connection, token: RefreshToken, state: SignIn) -> None:
        connection.execute(
            _UPDATE,
            {
                "sign_in": token.sign_in,
                "new_generation": state.generation,
                "new_rotated_at": state.rotated_at,
                "new_expires_at": state.expires_at,
                "new_ended": state.ended,
            },
        )

    def _prolonged(self, account: Account, id: bytes, state: SignIn, now: int) -> Prolonged:
        text = self._tokens.write(RefreshToken(id, state.generation))
        return Prolonged(account, text, (state.expires_at - now) // 1000)
