"""Invitations in the database, each for one sign-up."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from ..protocol.errors import Invalid
from .roles import join, split
from .tables import INVITATIONS

_TOKEN_BYTES: Final = 24

_ROW = INVITATIONS.c


class Invitation(Struct, frozen=True):
    """A new invitation.

    Args:
        token: the token for one sign-up.
        roles: the roles of the new user.
        expires_at: milliseconds since 1970.
    """

    token: str
    roles: tuple[str, ...]
    expires_at: int


def new_seed() -> str:
    """Return a seed; seed and server secret together give the token of a new invitation."""
    return secrets.token_hex(16)


def token_of(secret: bytes, seed: str) -> str:
    """Return the token of an invitation. No table has the token: a mail may be sent again.

    Args:
        secret: the server's secret.
        seed: a seed of `new_seed`, useless without the secret.
    """
    mac = hmac.digest(secret, b"invitation\0" + seed.encode(), "sha256")
    return urlsafe_b64encode(mac[:_TOKEN_BYTES]).decode()


def add(
    connection: Connection,
    token: str,
    roles: Sequence[str],
    created_by: str | None,
    expires_at: int,
) -> Invitation:
    """Store an invitation for a token."""
    connection.execute(
        insert(INVITATIONS).values(
            digest=_digest(token),
            roles=join(roles),
            created_by=created_by,
            expires_at=expires_at,
            used_by=None,
        )
    )
    return Invitation(token, tuple(roles), expires_at)


def is_valid(connection: Connection, token: str, now: int) -> bool:
    """Return True if a user can sign up with an invitation."""
    statement = select(_ROW.digest).where(*_usable(token, now))
    return connection.execute(statement).first() is not None


def use(connection: Connection, token: str, user: str, now: int) -> tuple[str, ...]:
    """Use an invitation, and return its roles.

    Raises:
        Invalid: the invitation was used, has expired, or never existed.
    """
    statement = (
        update(INVITATIONS).where(*_usable(token, now)).values(used_by=user).returning(_ROW.roles)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise invalid()
    return split(row.roles)


def forget(connection: Connection, now: int) -> None:
    """Delete expired invitations."""
    connection.execute(delete(INVITATIONS).where(_ROW.expires_at <= now))


def invalid() -> Invalid:
    """Return the error about an invalid invitation."""
    return Invalid({"invitation": "was used already, has expired, or never was"})


def _usable(token: str, now: int) -> tuple[ColumnElement[bool], ...]:
    return _ROW.digest == _digest(token), _ROW.used_by.is_(None), _ROW.expires_at > now


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
